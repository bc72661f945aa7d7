#!/usr/bin/env bash
# The lints that cargo itself does not have: the dependencies by deny.toml, and the syntax of every script.
# Installs cargo-deny if it is not there. It must never change a file.
# Usage: tests/lint.sh
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo-deny >/dev/null || cargo install --locked cargo-deny@0.20.2
# Duplicates are warnings: they are shown by `cargo deny check bans`, and do not drown the errors here.
cargo deny --log-level error check licenses bans sources

for script in .ci/run */*.sh; do
    shell=$(head -n 1 "$script")
    case $shell in
    *bash) bash -n "$script" ;;
    *) sh -n "$script" ;;
    esac
done
python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' benches/*.py tests/*.py
echo "lint: scripts parse"
