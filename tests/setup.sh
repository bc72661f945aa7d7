#!/bin/sh
# Prepares a machine for the tests that use real peers: installs what is missing (a JDK, Maven, Node, Go, pip, nginx,
# HAProxy, curl, wrk, nghttp2, strace, ip, ZooKeeper) and builds the Java, Node, Go and Python programs under tests/peers.
# Idempotent, and quick when there is nothing to do: each step leaves a stamp of its inputs under tests/peers/**/out or
# node_modules. Works offline once it has run online. Must never leave a server running: tests start theirs themselves.
# Must never report success with something missing: every failure names the step and ends with status 1.
# Usage: tests/setup.sh
set -eu
# Servers lie outside an ordinary user's PATH.
PATH="$PATH:/usr/sbin:/sbin"

peers=$(cd "$(dirname "$0")" && pwd)/peers
log="$peers/out/setup.log"
mkdir -p "$peers/out"

# Two test runs may start at once; the second waits and then finds everything done.
exec 9>"$peers/out/setup.lock"
flock 9

say() { echo "setup: $*"; }
die() { echo "setup: FAILED: $*" >&2; exit 1; }

# run WHAT COMMAND...: output goes to the log, and to the terminal only when the command fails.
run() {
    what=$1
    shift
    "$@" >"$log" 2>&1 9>&- || { tail -n 40 "$log" >&2; die "$what: $*"; }
}

install_tools() {
    missing=
    command -v javac >/dev/null || missing="$missing default-jdk-headless"
    command -v mvn >/dev/null || missing="$missing maven"
    command -v node >/dev/null || missing="$missing nodejs"
    command -v npm >/dev/null || missing="$missing npm"
    command -v go >/dev/null || missing="$missing golang-go"
    python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
    command -v curl >/dev/null || missing="$missing curl"
    command -v wrk >/dev/null || missing="$missing wrk"
    command -v h2load >/dev/null || missing="$missing nghttp2-client"
    command -v nginx >/dev/null || missing="$missing nginx"
    command -v haproxy >/dev/null || missing="$missing haproxy"
    command -v strace >/dev/null || missing="$missing strace"
    # Certificates of the API server.
    command -v openssl >/dev/null || missing="$missing openssl"
    # Networks of their own for tests: see support/netns.rs.
    command -v ip >/dev/null || missing="$missing iproute2"
    # Its jars alone are used; the service of Debian's other package is not installed.
    [ -e /usr/share/java/zookeeper.jar ] || missing="$missing zookeeper"
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "missing$missing, and there is no apt-get here: install them by hand"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=$(command -v sudo) || die "missing$missing: installing them needs root or sudo"
    say "installing$missing"
    run "updating the package lists" $sudo apt-get update -q
    # In runlevel 1 no package starts its service.
    # shellcheck disable=SC2086
    run "installing packages" $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends $missing
}

# A stamp is a digest of the inputs' names and contents.
digest() { find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum; }

# maven DIR OUT FLAGS...: the local repository first, the network only for what it lacks.
maven() {
    dir=$1 out=$2
    shift 2
    now=$(digest "$peers/$dir/pom.xml" "$peers/$dir/src" "$peers/shared/src")
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$now" ] && return 0
    say "building tests/peers/$dir $*"
    rm -rf "$out"
    cd "$peers/$dir"
    if ! mvn -o -q -B "$@" package >"$log" 2>&1 9>&-; then
        run "Maven could not build tests/peers/$dir" mvn -q -B "$@" package
    fi
    echo "$now" >"$out/stamp"
}

npm_ci() {
    stamp="$peers/node-peer/node_modules/stamp"
    now=$(digest "$peers/node-peer/package.json" "$peers/node-peer/package-lock.json")
    [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && return 0
    say "installing the modules of tests/peers/node-peer"
    cd "$peers/node-peer"
    run "npm could not install the modules" npm ci --prefer-offline --no-fund --no-audit
    echo "$now" >"$stamp"
}

# What grpc-go's own module file asks for.
go_is_new() {
    minor=$(go version | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge 26 ] || die "Go 1.26 or later is needed, here is $(go version): install it by hand"
}

# go_build DIR PACKAGE...: versions and digests of what others wrote are those of go.sum; the cache of modules first.
go_build() {
    dir=$1 out="$peers/$1/out"
    shift
    now=$(digest "$peers/$dir" -maxdepth 1; go version)
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$now" ] && return 0
    say "building tests/peers/$dir"
    rm -rf "$out"
    cd "$peers/$dir"
    run "Go could not build tests/peers/$dir" \
        env GOTOOLCHAIN=local GOFLAGS="-mod=readonly -buildvcs=false" CGO_ENABLED=0 go build -p 2 -o out/ "$@"
    echo "$now" >"$out/stamp"
}

# go_install DIR MODULE@VERSION PACKAGE...: programs of one module, whose own files pin all that they are made of. Built
# where the cache keeps it: asked for by name, Go would ask the network about it each time.
go_install() {
    out="$peers/$1/out" module=$2
    shift 2
    now="$module $*"
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$now" ] && return 0
    say "installing the programs of $module"
    rm -rf "$out"
    cd "$peers"
    run "Go could not fetch $module" env GOTOOLCHAIN=local GOFLAGS=-mod=mod go mod download "$module"
    cd "$(go env GOMODCACHE)/$module"
    run "Go could not build $module" \
        env GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -p 2 -o "$out/" "$@"
    echo "$now" >"$out/stamp"
}

# The API server of Kubernetes: 2,000 packages, minutes and 2 GB for the first build. Stripped, since it is large enough.
kube_apiserver() {
    go_build kube-apiserver -trimpath "-ldflags=-s -w" .
}

# Into a folder of its own, which the programs find by PYTHONPATH: nothing of the machine's Python is changed.
pip_install() {
    out="$peers/python-http/out"
    now=$(digest "$peers/python-http/requirements.txt"; python3 --version)
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$now" ] && return 0
    say "installing the libraries of tests/peers/python-http"
    rm -rf "$out"
    run "pip could not install the libraries" \
        python3 -m pip install -q --no-deps --target "$out/lib" -r "$peers/python-http/requirements.txt"
    echo "$now" >"$out/stamp"
}

install_tools
maven dubbo-peer "$peers/dubbo-peer/out/d33" -Pd33
maven dubbo-peer "$peers/dubbo-peer/out/d27" -Pd27
maven dubbo-peer "$peers/dubbo-peer/out/d27-etcd" -Pd27-etcd
maven sofa-peer "$peers/sofa-peer/out"
maven spring-peer "$peers/spring-peer/out"
maven spring-cloud-peer "$peers/spring-cloud-peer/out"
maven nacos-server "$peers/nacos-server/out"
maven grpc-java-peer "$peers/grpc-java-peer/out"
npm_ci
go_is_new
go_build go-http .
go_build h2spec tool
go_build go-grpc . tool
go_build etcd-server .
go_build dubbo-go-peer .
go_install conformance connectrpc.com/conformance@v1.0.7 ./cmd/connectconformance ./cmd/referenceserver
pip_install
kube_apiserver
say "the peers are ready"
