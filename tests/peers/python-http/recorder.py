"""An HTTP/1.1 server by h11 that says how it understood each request: recorder.py PORT

One JSON line a request goes to stdout before it is answered; bytes are written as the characters of the same numbers.
What h11 refuses gets its status and no line. It must never change what h11 read.
"""
import json
import socket
import sys
import threading

import h11

OUT = threading.Lock()


def say(value):
    with OUT:
        print(json.dumps(value), flush=True)


def pairs(headers):
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]


def next_event(peer, connection):
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            peer.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
        connection.receive_data(peer.recv(65536))


def one(peer, connection):
    """Reads, records and answers one request; False when there is none."""
    request = next_event(peer, connection)
    if not isinstance(request, h11.Request):
        return False
    body = bytearray()
    while True:
        event = next_event(peer, connection)
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return False
    say({
        "method": request.method.decode("latin-1"),
        "target": request.target.decode("latin-1"),
        "headers": pairs(request.headers.raw_items()),
        "body": body.decode("latin-1"),
        "trailers": pairs(event.headers.raw_items() if hasattr(event.headers, "raw_items") else event.headers),
    })
    head = h11.Response(status_code=200, headers=[("Content-Length", "5")])
    answer = connection.send(head)
    if request.method != b"HEAD":
        answer += connection.send(h11.Data(data=b"seen\n"))
    peer.sendall(answer + (connection.send(h11.EndOfMessage()) or b""))
    if connection.our_state is h11.MUST_CLOSE:
        return False
    connection.start_next_cycle()
    return True


def serve(peer):
    with peer:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        try:
            while one(peer, connection):
                pass
        except h11.RemoteProtocolError as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            status = error.error_status_hint
            peer.sendall(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        except OSError:
            pass


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=512)
    say({"ready": True, "peer": "h11"})
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


main()
