# shellcheck shell=bash
# Finds what a machine lacks, and installs it. To be sourced:
#
#   source "$(dirname "$0")/setup.sh"
#   setup build postgres kafka
#
# It looks for the programs themselves, so it is content wherever they came from; only to install them does it need apt.
# Nothing that is there is installed again.

say() { printf '%s\n' "$@" >&2; }

die() {
    say "error: $*"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# The folder with PostgreSQL's programs, newest version first; nothing when there is none that will do.
postgres_programs() {
    local folder version
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse) ${PATH//:/ }; do
        [[ -x $folder/initdb && -x $folder/pg_ctl && -x $folder/postgres ]] || continue
        version=$("$folder/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
        ((version >= 14)) && printf '%s\n' "$folder" && return
    done
}

java_version() { java -version 2>&1 | sed -nE 's/.* version "([0-9]+).*/\1/p'; }

# The Debian packages that are missing for one purpose, one a line.
missing_for() {
    case $1 in
        build)
            has cc && has c++ && has make || echo build-essential
            has pkg-config || echo pkg-config
            has pkg-config && pkg-config --exists zlib || echo zlib1g-dev
            has pkg-config && pkg-config --exists openssl || echo libssl-dev
            ;;
        postgres)
            [[ $(postgres_programs) ]] || echo postgresql
            ;;
        kafka)
            has java && (($(java_version) >= 17)) || echo openjdk-17-jre-headless
            has mvn || echo maven
            ;;
        *) die "nothing is known about setting up '$1'" ;;
    esac
}

reason_for() {
    case $1 in
        build) echo "to build the Kafka client, which is C" ;;
        postgres) echo "PostgreSQL, which holds everything" ;;
        kafka) echo "to fetch and run a Kafka broker" ;;
    esac
}

# setup PURPOSE...: installs what is missing for these purposes, or ends with one line that says what to install.
setup() {
    has cargo || die "cargo is missing: install Rust from https://rustup.rs"

    local purpose missing packages=()
    for purpose in "$@"; do
        mapfile -t missing < <(missing_for "$purpose")
        ((${#missing[@]})) || continue
        say "missing: ${missing[*]} ($(reason_for "$purpose"))"
        packages+=("${missing[@]}")
    done
    ((${#packages[@]})) || return 0
    install_packages "${packages[@]}"

    for purpose in "$@"; do
        mapfile -t missing < <(missing_for "$purpose")
        ((${#missing[@]} == 0)) || die "installed, but still not found: ${missing[*]}"
    done
}

install_packages() {
    local as_root=()
    has apt-get || die "install these (here under their Debian names), then try again: $*"
    if ((EUID != 0)); then
        has sudo || die "not root, and no sudo: let somebody run: apt-get install $*"
        sudo -n true 2>/dev/null || [[ -t 0 ]] || die "sudo wants a password: let somebody run: apt-get install $*"
        as_root=(sudo)
    fi
    say "installing: $*"

    # Debian would otherwise make a database cluster and start it at every boot. Nobody here needs that one.
    if [[ " $* " == *" postgresql "* && ! -e /usr/share/postgresql-common ]]; then
        say "telling it not to create a database cluster: /etc/postgresql-common/createcluster.d/portfolio-insight.conf"
        "${as_root[@]}" mkdir -p /etc/postgresql-common/createcluster.d
        echo "create_main_cluster = false" |
            "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/portfolio-insight.conf >/dev/null
    fi

    local log
    log=$(mktemp)
    if ! {
        "${as_root[@]}" apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"
    } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "apt-get could not install $* (all it said is in $log)"
    fi
    rm -f "$log"
}
