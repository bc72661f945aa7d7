// Command go-http is the peers of the tests by Go's net/http: go-http record|echo|echo2|client PORT.
//
// record says how it understood each request, echo is a server for clients of every kind, echo2 is the same by HTTP/2
// with prior knowledge and by nothing else, client reads one case a line from stdin. All answer by JSON lines on stdout.
// It uses nothing but the standard library, and must listen on and dial loopback only.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"sort"
	"sync"
)

var out sync.Mutex

// say prints one JSON line.
func say(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	out.Lock()
	defer out.Unlock()
	fmt.Println(string(line))
}

// latin1 writes bytes as the characters of the same numbers.
func latin1(bytes string) string {
	runes := make([]rune, len(bytes))
	for i := 0; i < len(bytes); i++ {
		runes[i] = rune(bytes[i])
	}
	return string(runes)
}

// pairs lists a header by name; Go keeps the order of equal names only.
func pairs(header http.Header) [][2]string {
	found := [][2]string{}
	for name, values := range header {
		for _, value := range values {
			found = append(found, [2]string{name, latin1(value)})
		}
	}
	sort.SliceStable(found, func(i, j int) bool { return found[i][0] < found[j][0] })
	return found
}

func serve(port string, server *http.Server) {
	listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		panic(err)
	}
	say(map[string]any{"ready": true, "peer": "go"})
	panic(server.Serve(listener))
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go-http record|echo|echo2|client PORT")
		os.Exit(2)
	}
	switch mode, port := os.Args[1], os.Args[2]; mode {
	case "record":
		record(port)
	case "echo":
		echo(port, false)
	case "echo2":
		echo(port, true)
	case "client":
		client(port)
	default:
		panic("no such mode: " + mode)
	}
}
