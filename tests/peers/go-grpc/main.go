// Command go-grpc is grpc-go's server of the interoperability tests: go-grpc PORT.
//
// The service is the library's own, whole and unchanged; only where it listens is ours: on loopback. It says when it is
// ready by a JSON line on stdout.
package main

import (
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testing "google.golang.org/grpc/interop/grpc_testing"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go-grpc PORT")
		os.Exit(2)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer()
	testing.RegisterTestServiceServer(server, interop.NewTestServer())
	fmt.Println(`{"ready": true, "peer": "grpc-go"}`)
	panic(server.Serve(listener))
}
