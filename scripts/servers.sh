# shellcheck shell=bash
# The servers of one run: private, temporary, and gone with it. To be sourced:
#
#   source "$(dirname "$0")/servers.sh"
#   with_servers postgres kafka        # exports DATABASE_URL and KAFKA_BROKERS
#
# What is set already is used as it is, and nothing is started for it. Runs do not meet: each has its own folder and ports.
# A run that was killed leaves its servers behind; the next one finds and removes them.

# shellcheck source=scripts/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Settings for a database that need not survive a power cut, as tests do not.
# shellcheck disable=SC2034 # for those who source this
readonly FLEETING=(fsync=off full_page_writes=off synchronous_commit=off)

# with_servers SERVER...: starts what is not given. POSTGRES_SETTINGS=(name=value ...) changes PostgreSQL's.
with_servers() {
    local server
    for server in "$@"; do
        case $server in
            postgres)
                [[ ${DATABASE_URL:-} ]] && say "PostgreSQL: the one of DATABASE_URL" && continue
                own_run_folder
                DATABASE_URL=$("$scripts/postgres" start "$run_folder/postgres" "${POSTGRES_SETTINGS[@]}") || return
                export DATABASE_URL
                ;;
            kafka)
                [[ ${KAFKA_BROKERS:-} ]] && say "Kafka: the one of KAFKA_BROKERS" && continue
                own_run_folder
                KAFKA_BROKERS=$("$scripts/kafka" start "$run_folder/kafka") || return
                export KAFKA_BROKERS
                ;;
        esac
    done
}

run_folder=""
POSTGRES_SETTINGS=()

# The folder of this run, made when first needed. Others may enter it, since PostgreSQL runs as somebody else when we are
# root; what is inside is closed.
own_run_folder() {
    [[ $run_folder ]] && return
    remove_orphans
    run_folder=$(mktemp -d "${TMPDIR:-/tmp}/portfolio-insight-XXXXXX")
    chmod 755 "$run_folder"
    echo $$ >"$run_folder/owner"
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    trap 'remove_run "$run_folder"' EXIT
}

# What runs left behind that were killed.
remove_orphans() {
    local folder owner
    for folder in "${TMPDIR:-/tmp}"/portfolio-insight-??????; do
        [[ -O $folder && -s $folder/owner ]] || continue
        read -r owner <"$folder/owner"
        kill -0 "$owner" 2>/dev/null && continue
        say "removing what a killed run left behind: $folder"
        remove_run "$folder"
    done
}

remove_run() {
    [[ -d $1/kafka ]] && "$scripts/kafka" stop "$1/kafka"
    [[ -d $1/postgres ]] && "$scripts/postgres" stop "$1/postgres"
    rm -rf "$1"
}
