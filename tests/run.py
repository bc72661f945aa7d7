#!/usr/bin/env python3
"""Builds every test of the workspace and runs them all, in two lanes: those that mostly wait for real servers in one, all others,
one after the other, in the other. So neither of two cores is left idle, and no two that are busy meet.

Each test's output is shown when it has ended. Must never lose a failure: the exit status is 1 if any test failed, could not be
built or did not run. What may be given besides is handed to every test (`tests/run.py -- --nocapture`).
"""

import json
import os
import subprocess
import sys
import threading
import time

# Tests, by the name of their target, that mostly wait: for JVMs to start, for sessions to expire, for news to arrive.
WAITING = {
    "bridges",
    "bridges_kubernetes",
    "failures",
    "java_policies",
    "learn",
    "levels",
    "many",
    "mesh",
    "migration",
    "own",
    "real_server",
    "registries",
    "registry_failures",
    "suite",
}
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def built():
    """Every test program: (target's name, its package's folder, program)."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    build = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if build.returncode != 0:
        sys.exit(f"run: the tests could not be built (status {build.returncode})")
    programs = []
    for line in build.stdout.splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("reason") == "compiler-artifact" and said["profile"]["test"] and said.get("executable"):
            folder = os.path.dirname(said["manifest_path"])
            programs.append((said["target"]["name"], folder, said["executable"]))
    if not programs:
        sys.exit("run: there are no tests")
    return programs


def lane(programs, arguments, failed, lock):
    for name, folder, program in programs:
        began = time.monotonic()
        run = subprocess.run(
            [program, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        with lock:
            where = os.path.relpath(folder, ROOT)
            print(f"     Running {name} of {where} ({time.monotonic() - began:.1f} s)", flush=True)
            sys.stdout.buffer.write(run.stdout)
            sys.stdout.buffer.flush()
            if run.returncode != 0:
                failed.append(f"{name} of {where}: status {run.returncode}")


def main():
    arguments = sys.argv[2:] if sys.argv[1:2] == ["--"] else sys.argv[1:]
    programs = built()
    failed, lock = [], threading.Lock()
    waits = [each for each in programs if each[0] in WAITING]
    works = [each for each in programs if each[0] not in WAITING]
    lanes = [threading.Thread(target=lane, args=(each, arguments, failed, lock)) for each in (waits, works)]
    for each in lanes:
        each.start()
    for each in lanes:
        each.join()
    documented = subprocess.run(["cargo", "test", "--workspace", "--doc"], cwd=ROOT, check=False)
    if documented.returncode != 0:
        failed.append("examples in documentation")
    for each in failed:
        print(f"run: FAILED: {each}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
