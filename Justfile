# Short names; what they do is in scripts/.

# What there is.
default:
    @just --list

# See it at work (flags: --once, --json, --kafka, --investors N, --assets N).
demo *flags:
    scripts/demo {{flags}}

# Everything that must hold; or only the tests whose name contains NAME.
test *name:
    scripts/test {{name}}

# Kill everything at random under load, and judge what is left (flags: --minutes N, --seed S, --embedded; see scripts/chaos).
chaos *flags:
    scripts/chaos {{flags}}

# Figures, on a quiet machine.
bench *arguments:
    scripts/bench {{arguments}}

# Write the files that are generated and committed.
generate:
    scripts/generate

fmt:
    cargo fmt

lint:
    SQLX_OFFLINE=true cargo clippy --all-targets --locked -- -D warnings

doc:
    SQLX_OFFLINE=true cargo doc --no-deps --locked --open
