#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS each (12 by default), from seeds taken out of the tests' own data.
# Arguments name targets; without any, all are run. A crash stops the run and leaves its input in fuzz/artifacts.
# Installs cargo-fuzz if it is not there; needs a nightly toolchain, which it never changes the default to.
# It must never touch the tests' data, and leaves nothing behind but fuzz/corpus, which git ignores.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${FUZZ_SECONDS:-12}
data=../protocols

# unhex FOLDER NAME: one seed from the hex digits on standard input.
unhex() {
    mkdir -p "corpus/$1"
    printf '%b' "$(tr -d ' \n\r' | sed 's/../\\x&/g')" >"corpus/$1/$2"
}

# lines FOLDER PREFIX: one seed from each line of hex digits.
lines() {
    local n=0 line
    while read -r line; do
        n=$((n + 1))
        unhex "$1" "$2-$n" <<<"$line"
    done
}

# texts TARGET: one seed from each line of its file, in which \r and \n are spelled out.
texts() {
    local n=0 line
    mkdir -p "corpus/$1"
    while read -r line; do
        n=$((n + 1))
        printf '%b' "$line" >"corpus/$1/text-$n"
    done <"seeds/$1.txt"
}

seed() {
    local hex target
    for hex in "$data"/bolt/tests/data/frames/*.hex; do
        unhex bolt "$(basename "$hex")" <"$hex"
    done
    grep -xE '  ([0-9a-f]{2})+' "$data"/bolt/tests/data/bolt_frames.txt | lines bolt built
    for hex in "$data"/dubbo/tests/data/dubbo-*/*.hex; do
        unhex dubbo "$(basename "$(dirname "$hex")")-$(basename "$hex")" <"$hex"
    done
    # A row is "what, tab, hex".
    cut -f2 "$data"/dubbo/tests/data/hessian2_values.tsv | grep -xE '([0-9a-f]{2})+' | lines hessian value
    cut -f2 "$data"/bolt/tests/data/hessian2_draft_sofa355.tsv | grep -xE '([0-9a-f]{2})+' | lines hessian_draft value
    for target in http1_request http1_reply http1_chunks grpc_timeout downgrade; do
        texts "$target"
    done
    for target in http1_exchange http2_frames hpack streams_engine; do
        lines "$target" script <"seeds/$target.hex"
    done
    # The walkers see bodies: what is behind the fixed header of a captured frame.
    mkdir -p corpus/fastjson2 corpus/hessian corpus/conf corpus/dubbo_answer corpus/registry_formats
    for hex in corpus/dubbo/*.req.hex; do
        tail -c +17 "$hex" >"corpus/hessian/$(basename "$hex")"
        tail -c +17 "$hex" >"corpus/fastjson2/$(basename "$hex")"
    done
    cp corpus/dubbo/*.resp.hex corpus/dubbo_answer/ 2>/dev/null || cp corpus/dubbo/* corpus/dubbo_answer/
    # Each line of a dump is an entry, or the path of one.
    cat ../registries/discovery/tests/golden/* | sed 's/^.*providers\///' | split -l 1 - corpus/registry_formats/entry-
    cp seeds/conf.yaml ../conf/*.yaml corpus/conf/ 2>/dev/null || cp seeds/conf.yaml corpus/conf/
}

command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz@0.13.2
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
seed
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# No address sanitizer: unsafe code is forbidden in all that is fuzzed, and without it both build and runs are faster.
options=(--fuzz-dir . --sanitizer none)
cargo +nightly fuzz build "${options[@]}"
if [ $# -eq 0 ]; then
    set -- bolt dubbo hessian hessian_draft fastjson2 http1_request http1_reply http1_chunks http1_exchange conf \
        http2_frames hpack grpc_timeout downgrade streams_engine dubbo_answer registry_formats
fi
for target; do
    dict=()
    # One for all targets of a protocol.
    if [ -e "${target%%_*}.dict" ]; then dict=("-dict=${target%%_*}.dict"); fi
    echo "fuzz: $target for $seconds s"
    cargo +nightly fuzz run "${options[@]}" "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=10 \
        -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 ${dict[@]+"${dict[@]}"}
done
echo "fuzz: $# targets, no crash"
