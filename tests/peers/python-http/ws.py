"""WebSocket peers by the websockets library: ws.py server PORT | ws.py client PORT

The server echoes; the text `close CODE REASON` makes it close so. The client reads one case a line from stdin and
prints one JSON line each. Every echoed value is compared here. It must never turn compression on: frames are then
what the application wrote.
"""
import json
import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

MAX = 8 << 20
CLOSED = []
OUT = threading.Lock()


def say(value):
    with OUT:
        print(json.dumps(value), flush=True)


def echo(socket):
    try:
        for message in socket:
            if isinstance(message, str) and message.startswith("close "):
                _, code, reason = message.split(" ", 2)
                socket.close(int(code), reason)
                return
            socket.send(message)
    except ConnectionClosed:
        pass
    finally:
        # What the client closed with, as this side saw it; None when it went without a word.
        protocol = socket.protocol
        CLOSED.append([protocol.close_code, protocol.close_reason])


def server(port):
    with serve(echo, "127.0.0.1", port, compression=None, max_size=MAX) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        say({"ready": True, "peer": "websockets"})
        for _ in sys.stdin:
            say({"ok": True, "value": CLOSED[-1] if CLOSED else None, "sockets": len(CLOSED)})


def pattern(length):
    return bytes((i * 31 + i // 251) & 255 for i in range(length))


def opened(port):
    return connect(f"ws://127.0.0.1:{port}/chat?room=1", compression=None, max_size=MAX, ping_interval=None)


def many(port, number):
    """That many sockets at once, ten messages each; the number of echoes that were right."""
    right = []

    def talk(n):
        with opened(port) as socket:
            for i in range(10):
                text = f"{n}-{i}-" + "x" * (n * 97)
                socket.send(text)
                right.append(socket.recv(timeout=10) == text)

    threads = [threading.Thread(target=talk, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(right)


def case(port, name, words):
    if name == "parallel":
        return many(port, int(words[0]))
    with opened(port) as socket:
        if name == "text":
            socket.send(" ".join(words))
            return socket.recv(timeout=10)
        if name == "binary":
            sent = pattern(int(words[0]))
            socket.send(sent)
            return f"{len(sent)} equal" if socket.recv(timeout=10) == sent else "other bytes"
        if name == "fragments":
            socket.send(["one ", "two ", "three"])
            return socket.recv(timeout=10)
        if name == "ping":
            pongs = [socket.ping().wait(10) for _ in range(int(words[0]))]
            return sum(pongs)
        if name == "close":
            socket.close(int(words[0]), words[1])
            return [socket.protocol.close_code, socket.protocol.close_reason]
        if name == "closed":
            socket.send(f"close {words[0]} {words[1]}")
            try:
                socket.recv(timeout=10)
            except ConnectionClosed as closed:
                return [closed.rcvd.code, closed.rcvd.reason]
        raise ValueError(name)


def client(port):
    say({"ready": True, "peer": "websockets"})
    for line in sys.stdin:
        name, *words = line.split()
        try:
            say({"ok": True, "case": name, "value": case(port, name, words)})
        except Exception as error:  # whatever it is, the test shows it
            say({"ok": False, "case": name, "message": f"{type(error).__name__}: {error}"})


{"server": server, "client": client}[sys.argv[1]](int(sys.argv[2]))
