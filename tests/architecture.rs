//! The architecture, checked: who may use whom, where foreign packages live, and that every file says what it is.
//!
//! It reads the sources as tokens, so a name in a comment or a string is no breach, and it needs no compiler: it takes
//! milliseconds and lists every breach at once. What is under `#[cfg(test)]` may use what it likes.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The modules, from the ground up, and which others each may name. Nobody may name one below itself.
const MODULES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("retry", &[]),
    ("shutdown", &[]),
    ("postgres", &[]),
    ("telemetry", &[]),
    ("metrics", &[]),
    ("config", &[]),
    ("closes", &[]),
    ("domain", &[]),
    ("events", &["domain"]),
    ("risk", &["domain"]),
    ("event_store", &["domain", "events", "postgres", "retry", "shutdown", "clock", "metrics"]),
    ("commands", &["domain", "events", "event_store", "clock", "metrics"]),
    ("kafka", &["domain", "events", "retry", "shutdown", "metrics"]),
    (
        "feed",
        &["domain", "events", "event_store", "kafka", "postgres", "retry", "clock", "shutdown", "metrics"],
    ),
    ("relay", &["domain", "events", "event_store", "kafka", "postgres", "retry", "shutdown", "metrics"]),
    ("queries", &["domain", "events", "event_store", "postgres", "metrics"]),
    ("analysis", &["domain", "risk", "queries"]),
    (
        "projectors",
        &[
            "domain",
            "events",
            "event_store",
            "feed",
            "risk",
            "queries",
            "analysis",
            "postgres",
            "retry",
            "clock",
            "shutdown",
            "metrics",
        ],
    ),
    ("verify", &["domain", "events", "event_store", "kafka", "analysis", "postgres"]),
    ("market_data", &["closes", "domain", "commands", "queries", "retry", "clock", "metrics"]),
    // Below what their runs do: verify, fetch.
    (
        "reactors",
        &[
            "domain",
            "events",
            "event_store",
            "feed",
            "commands",
            "queries",
            "verify",
            "market_data",
            "postgres",
            "retry",
            "clock",
            "shutdown",
            "metrics",
        ],
    ),
    ("demo", &["closes", "domain", "postgres", "clock", "shutdown", "config"]),
    (
        "api",
        &[
            "domain",
            "events",
            "event_store",
            "commands",
            "queries",
            "analysis",
            "config",
            "clock",
            "telemetry",
            "shutdown",
            "metrics",
        ],
    ),
    (
        "roles",
        &[
            "clock",
            "retry",
            "shutdown",
            "postgres",
            "telemetry",
            "metrics",
            "config",
            "domain",
            "events",
            "risk",
            "event_store",
            "commands",
            "kafka",
            "feed",
            "relay",
            "queries",
            "analysis",
            "projectors",
            "reactors",
            "verify",
            "market_data",
            "demo",
            "api",
        ],
    ),
    ("cli", &["config", "roles"]),
    ("main", &["cli", "config", "roles", "shutdown", "telemetry"]),
];

/// Foreign packages that live in few places, so that they can be replaced there.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["api"]),
    ("hyper", &["api"]),
    ("hyper_util", &["api"]),
    ("tower_http", &["api"]),
    ("utoipa", &["api"]),
    ("utoipa_axum", &["api"]),
    ("utoipa_swagger_ui", &["api"]),
    ("rdkafka", &["kafka"]),
    ("reqwest", &["market_data", "demo"]),
    ("secrecy", &["market_data"]),
    ("quick_xml", &["market_data"]),
    ("csv", &["market_data"]),
    ("backoff", &["retry"]),
    ("rayon", &["risk"]),
    ("rand", &["risk", "demo"]),
    ("schemars", &["domain", "events"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("tracing_subscriber", &["telemetry"]),
    ("clap", &["main", "cli", "config"]),
    ("anyhow", &["main", "cli", "roles"]),
    ("std::process::Command", &["postgres", "demo"]),
];

/// What the pure modules may not touch: no I/O, no clock, no threads of their own.
const BANNED: &[(&str, &[&str])] = &[
    ("sqlx", &["domain", "events", "risk"]),
    ("tokio", &["domain", "events", "risk"]),
    ("std::fs", &["domain", "events", "risk"]),
    ("std::net", &["domain", "events", "risk"]),
    ("std::env", &["domain", "events", "risk"]),
    ("std::process", &["domain", "events", "risk"]),
    ("std::thread", &["domain", "events", "risk"]),
    ("std::time", &["domain", "events", "risk"]),
];

/// Names that are chosen when the name was not found.
const NO_NAMES: &[&str] = &["utils", "util", "common", "helpers", "types", "models", "services", "manager"];

/// Lines; a file with more has two subjects.
const LINES_MAX: usize = 500;

#[test]
fn the_sources_keep_to_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = read(root, &["src"]);
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let tests: BTreeSet<_> = sources.iter().flat_map(Source::test_modules).collect();

    let (mut present, mut used) = (BTreeSet::new(), BTreeSet::new());
    let mut breaches = Vec::new();
    for source in &sources {
        breaches.extend(source.missing_head());
        breaches.extend(source.untidy());
        if !tests.iter().any(|test| source.inside.starts_with(test)) {
            breaches.extend(source.forbidden());
            used.extend(source.modules_named());
            present.insert(source.module.clone());
        }
    }
    for (path, text) in &read(root, &["tests", "benches"]) {
        breaches.extend(Source::new(path, text).missing_head());
    }
    print_unused(&present, &used);
    assert!(breaches.is_empty(), "{} breaches of the architecture:\n{}", breaches.len(), lines(&breaches));
}

#[test]
fn the_table_itself_points_upwards_only() {
    for (place, (module, allowed)) in MODULES.iter().enumerate() {
        for other in *allowed {
            let above = MODULES[..place].iter().any(|(name, _)| name == other);
            assert!(above, "{module} may not use {other}, which does not stand above it");
        }
    }
}

/// Not a failure: a permission may be ahead of the code. Written past the capture of the test runner.
fn print_unused(present: &BTreeSet<String>, used: &BTreeSet<(String, String)>) {
    let mut text = String::new();
    for (module, allowed) in MODULES {
        if !present.contains(*module) || ["main", "roles"].contains(module) {
            continue;
        }
        let is_unused = |other: &&str| !used.contains(&((*module).to_owned(), (*other).to_owned()));
        let unused: Vec<_> = allowed.iter().copied().filter(is_unused).collect();
        if !unused.is_empty() {
            text.push_str(&format!("\n  {module} → {}", unused.join(", ")));
        }
    }
    if !text.is_empty() {
        let _ = writeln!(stderr(), "permissions that nobody uses:{text}");
    }
}

/// One rule broken at one place.
#[derive(Clone)]
struct Breach {
    path: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}:{}: {}", self.path.display(), self.line, self.what)
    }
}

fn lines(breaches: &[Breach]) -> String {
    breaches.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// One file below `src`.
struct Source<'a> {
    path: &'a Path,
    /// The path without what does not name a module: `src/kafka` for `src/kafka/mod.rs`.
    inside: PathBuf,
    /// The top-level module it belongs to: `kafka` for `src/kafka/consumer.rs`.
    module: String,
    /// How many `super` lead from here to the root of the crate.
    depth: usize,
    text: &'a str,
    tokens: TokenStream,
}

/// A path as it is written, from its first segment on: `crate::feed`, `rdkafka`, `std::process::Command`.
struct Use {
    segments: Vec<String>,
    line: usize,
}

impl<'a> Source<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        let mut inside = path.with_extension("");
        if inside.ends_with("mod") || inside.ends_with("lib") {
            inside.pop();
        }
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let segments: Vec<_> = inside.iter().skip(1).collect();
        let module = segments.first().map_or("lib".into(), |segment| segment.to_string_lossy());
        Self { path, module: module.into_owned(), depth: segments.len(), inside, text, tokens }
    }

    /// Who this file names that it may not name.
    fn forbidden(&self) -> Vec<Breach> {
        if self.module == "lib" {
            return Vec::new();
        }
        let Some((_, allowed)) = MODULES.iter().find(|(name, _)| *name == self.module) else {
            return vec![
                self.breach(1, format!("the module {} is not in the table of modules", self.module)),
            ];
        };
        let mut breaches = Vec::new();
        for used in self.uses() {
            if let Some(other) = self.other_module(&used)
                && !allowed.contains(&other.as_str())
            {
                breaches.push(self.breach(used.line, format!("{} may not use {other}", self.module)));
            }
            if used.segments.iter().take_while(|segment| *segment == "super").count() >= self.depth {
                breaches.push(
                    self.breach(used.line, "another module is named crate::…, not super::…".to_owned()),
                );
            }
            breaches.extend(self.foreign(&used));
        }
        breaches.dedup_by(|one, other| one.line == other.line && one.what == other.what);
        breaches
    }

    /// The files that are tests as a whole: `#[cfg(test)] mod golden;` in their parent.
    fn test_modules(&self) -> Vec<PathBuf> {
        let tokens: Vec<_> = self.tokens.clone().into_iter().collect();
        let attributes = (0..tokens.len()).filter(|at| is_test_attribute(&tokens[*at..]));
        let declared = attributes.filter_map(|at| {
            let item: String =
                tokens[at + 2..end_of_item(&tokens, at)].iter().map(|token| format!("{token} ")).collect();
            Some(self.inside.join(item.trim().strip_prefix("mod ")?.strip_suffix(" ;")?))
        });
        declared.collect()
    }

    fn modules_named(&self) -> BTreeSet<(String, String)> {
        let others = self.uses().into_iter().filter_map(|used| self.other_module(&used));
        others.map(|other| (self.module.clone(), other)).collect()
    }

    /// The other module of this crate that a path leads to. The program is a crate of its own and says `insight`.
    fn other_module(&self, used: &Use) -> Option<String> {
        let root = if self.module == "main" { "insight" } else { "crate" };
        match used.segments.as_slice() {
            [first, module, ..] if first == root && *module != self.module => Some(module.clone()),
            _ => None,
        }
    }

    fn foreign(&self, used: &Use) -> Vec<Breach> {
        let path = used.segments.join("::");
        let below = |package: &str| path == package || path.starts_with(&format!("{package}::"));
        let mut breaches = Vec::new();
        for (package, homes) in HOMES {
            if below(package) && !homes.contains(&self.module.as_str()) {
                let what = format!("{package} lives in {}, not in {}", homes.join(" and "), self.module);
                breaches.push(self.breach(used.line, what));
            }
        }
        for (package, strangers) in BANNED {
            if below(package) && strangers.contains(&self.module.as_str()) {
                breaches.push(self.breach(used.line, format!("{} is pure: no {package}", self.module)));
            }
        }
        breaches
    }

    fn missing_head(&self) -> Vec<Breach> {
        let first = self.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        if first.starts_with("//!") || first.starts_with("#![doc") {
            return Vec::new();
        }
        vec![self.breach(1, "no //! at the head that says what the file is".to_owned())]
    }

    fn untidy(&self) -> Vec<Breach> {
        let mut breaches = Vec::new();
        let lines = self.text.lines().count();
        if lines > LINES_MAX {
            breaches.push(self.breach(lines, format!("{lines} lines, more than {LINES_MAX}")));
        }
        for segment in self.path.with_extension("").iter().map(|segment| segment.to_string_lossy()) {
            if NO_NAMES.contains(&segment.as_ref()) {
                breaches.push(self.breach(1, format!("`{segment}` says nothing about what is in it")));
            }
        }
        breaches
    }

    fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        collect(self.tokens.clone(), &mut uses);
        uses
    }

    fn breach(&self, line: usize, what: String) -> Breach {
        Breach { path: self.path.to_owned(), line, what }
    }
}

/// Every path in `tokens`, groups within groups included; items under `#[cfg(test)]` are left out.
fn collect(tokens: TokenStream, uses: &mut Vec<Use>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = end_of_item(&tokens, at);
            continue;
        }
        match &tokens[at] {
            TokenTree::Group(group) => {
                collect(group.stream(), uses);
                at += 1;
            }
            TokenTree::Ident(_) if !follows_a_dot(&tokens, at) => {
                at = path(&tokens, at, &[], uses);
            }
            _ => at += 1,
        }
    }
}

/// Reads the path that begins at `at` after `prefix`, with its braces unfolded, and says where it ends.
fn path(tokens: &[TokenTree], at: usize, prefix: &[String], uses: &mut Vec<Use>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens[at].span().start().line;
    let mut at = at;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(group, &segments, uses);
                return at + 1;
            }
            _ => break,
        }
        if !is_path_separator(tokens, at + 1) {
            at += 1;
            break;
        }
        at += 3;
    }
    uses.push(Use { segments, line });
    at
}

/// The branches of `a::{b, c::d}`, each with what stands before the brace.
fn branches(group: &Group, prefix: &[String], uses: &mut Vec<Use>) {
    let tokens: Vec<_> = group.stream().into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(_) => at = path(&tokens, at, prefix, uses),
            _ => at += 1,
        }
        // An alias, or nothing: the next branch begins after the comma.
        while at < tokens.len() && !is_punctuation(tokens.get(at), ',') {
            at += 1;
        }
        at += 1;
    }
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punctuation(tokens.get(at), ':') && is_punctuation(tokens.get(at + 1), ':')
}

/// A field or method is no path.
fn follows_a_dot(tokens: &[TokenTree], at: usize) -> bool {
    at > 0 && is_punctuation(tokens.get(at - 1), '.')
}

fn is_punctuation(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == character)
}

/// `#[cfg(test)]`, also `#[cfg(all(test, …))]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(group), ..] = tokens else { return false };
    let text = group.stream().to_string().replace(' ', "");
    hash.as_char() == '#' && (text == "cfg(test)" || text.starts_with("cfg(all(test"))
}

/// Just after the item that begins at `at` with its attributes: its block, or its semicolon.
fn end_of_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return at + 1,
            TokenTree::Punct(punct) if punct.as_char() == ';' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The Rust files below some folders of the root: path from the root, and text.
fn read(root: &Path, folders: &[&str]) -> Vec<(PathBuf, String)> {
    let files = folders.iter().flat_map(|folder| rust_files(&root.join(folder)));
    let read = files.map(|path| {
        let text = fs::read_to_string(&path).expect("a source file is readable text");
        (path.strip_prefix(root).expect("found below the root").to_owned(), text)
    });
    read.collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The checker itself: it finds what is planted, and only that.
mod checker {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let text = format!("//! Head.\n{text}");
        let source = Source::new(Path::new(path), &text);
        let breaches = [source.missing_head(), source.untidy(), source.forbidden()].concat();
        breaches.iter().map(|breach| format!("{}: {}", breach.line, breach.what)).collect()
    }

    #[test]
    fn finds_a_forbidden_module_however_it_is_named() {
        let texts = [
            "use crate::feed::Feed;",
            "use crate::{domain::Money, feed::{self, Feed}};",
            "fn f() { let _ = crate::feed::read(); }",
            "fn f() { vec![crate::feed::X]; }",
            "type F = Option<crate::feed::Feed>;",
            "#[derive(crate::feed::Marker)] struct X;",
        ];
        for text in texts {
            assert_eq!(found("src/commands/execute.rs", text), ["2: commands may not use feed"], "{text}");
        }
    }

    #[test]
    fn lets_allowed_modules_and_oneself_pass() {
        let text = "use crate::{commands::load, domain::{ids, money::Money}, event_store as store};\nuse super::load;";
        assert_eq!(found("src/commands/execute.rs", text), [""; 0]);
    }

    #[test]
    fn finds_a_way_around_by_super() {
        let message = "2: another module is named crate::…, not super::…";
        assert_eq!(found("src/domain/mod.rs", "use super::feed::Feed;"), [message]);
        assert_eq!(found("src/domain/money.rs", "use super::super::feed;"), [message]);
        assert_eq!(found("src/domain/portfolio/lots.rs", "use super::super::money;"), [""; 0]);
    }

    #[test]
    fn finds_foreign_packages_away_from_home() {
        assert_eq!(
            found("src/relay/mod.rs", "use rdkafka::util;"),
            ["2: rdkafka lives in kafka, not in relay"]
        );
        assert_eq!(found("src/kafka/mod.rs", "use rdkafka::util;"), [""; 0]);
        assert_eq!(
            found("src/queries/mod.rs", "\nfn f() -> anyhow::Result<()> { Ok(()) }"),
            ["3: anyhow lives in main and cli and roles, not in queries"]
        );
        assert_eq!(
            found("src/relay/mod.rs", "use std::{fs, process::{Child, Command}};"),
            ["2: std::process::Command lives in postgres and demo, not in relay"]
        );
    }

    #[test]
    fn finds_impurity() {
        assert_eq!(found("src/risk/mod.rs", "use std::time::Instant;"), ["2: risk is pure: no std::time"]);
        assert_eq!(
            found("src/domain/ids.rs", "#[derive(sqlx::Type)] struct Id;"),
            ["2: domain is pure: no sqlx"]
        );
    }

    #[test]
    fn is_not_misled_by_comments_strings_fields_and_tests() {
        let text = r#"
            // use crate::feed;
            /// See crate::feed::Feed.
            const TEXT: &str = "crate::feed::Feed";
            fn f(x: X) { x.rdkafka(); }
            #[cfg(test)]
            mod tests { use crate::feed::Feed; use rdkafka::util; }
            #[cfg(test)]
            use crate::relay::Relay;
        "#;
        assert_eq!(found("src/domain/ids.rs", text), [""; 0]);
    }

    #[test]
    fn knows_the_files_that_are_tests_as_a_whole() {
        let text = "//! Head.\nmod codec;\n#[cfg(test)]\nmod golden;\n#[cfg(test)] mod tests { mod inner; }";
        let names = |path: &str| Source::new(Path::new(path), text).test_modules();
        assert_eq!(names("src/events/mod.rs"), [Path::new("src/events/golden")]);
        assert_eq!(names("src/events/codec.rs"), [Path::new("src/events/codec/golden")]);
        assert_eq!(names("src/lib.rs"), [Path::new("src/golden")]);
    }

    #[test]
    fn goes_on_after_a_test_item() {
        let text = "#[cfg(test)] mod tests {}\nuse crate::feed::Feed;";
        assert_eq!(found("src/domain/ids.rs", text), ["3: domain may not use feed"]);
    }

    #[test]
    fn finds_unknown_modules_names_without_sense_long_files_and_missing_heads() {
        assert_eq!(found("src/cache.rs", ""), ["1: the module cache is not in the table of modules"]);
        let message = "1: `helpers` says nothing about what is in it";
        assert_eq!(found("src/domain/helpers.rs", ""), [message]);
        assert_eq!(found("src/domain/helpers/split.rs", ""), [message]);
        assert_eq!(found("src/domain/ids.rs", &"\n".repeat(500)), ["501: 501 lines, more than 500"]);

        let headless =
            Source::new(Path::new("src/domain/ids.rs"), "use crate::domain::money;").missing_head();
        assert_eq!(headless.len(), 1);
        assert!(headless[0].what.starts_with("no //! at the head"));
    }
}
