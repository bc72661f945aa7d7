package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"dubbo.apache.org/dubbo-go/v3/common"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	"dubbo.apache.org/dubbo-go/v3/protocol"
	"dubbo.apache.org/dubbo-go/v3/server"
)

// Demo answers as the Java peers do. Dubbo2 finds its methods by their names, Triple by the description below.
type Demo struct{ name string }

func (d *Demo) Who(context.Context) (string, error) { return d.name, nil }

func (d *Demo) Echo(_ context.Context, text string) (string, error) { return text, nil }

func (d *Demo) Work(_ context.Context, token string) (string, error) {
	return d.name + " " + token, nil
}

func (d *Demo) Crash(_ context.Context, message string) (string, error) {
	return "", errors.New(message)
}

// MethodMapper tells the names that Java calls the methods by.
func (d *Demo) MethodMapper() map[string]string {
	return map[string]string{"Who": "who", "Echo": "echo", "Work": "work", "Crash": "crash"}
}

// described tells Triple of the same methods.
func described() *common.ServiceInfo {
	text := func(name string, call func(*Demo, context.Context, string) (string, error)) common.MethodInfo {
		return common.MethodInfo{
			Name:        name,
			Type:        constant.CallUnary,
			ReqInitFunc: func() any { return []any{new(string)} },
			MethodFunc: func(ctx context.Context, args []any, handler any) (any, error) {
				return call(handler.(*Demo), ctx, args[0].(string))
			},
		}
	}
	who := common.MethodInfo{
		Name:        "who",
		Type:        constant.CallUnary,
		ReqInitFunc: func() any { return []any{} },
		MethodFunc:  func(ctx context.Context, _ []any, handler any) (any, error) { return handler.(*Demo).Who(ctx) },
	}
	return &common.ServiceInfo{
		InterfaceName: service,
		Methods: []common.MethodInfo{
			who, text("echo", (*Demo).Echo), text("work", (*Demo).Work), text("crash", (*Demo).Crash),
		},
	}
}

// provide serves, on --port by the first protocol and on the ports above by the others.
func provide(args arguments) {
	first, err := strconv.Atoi(args.need("port"))
	check(err)
	var protocols []server.ServerOption
	var ports []int
	for at, proto := range strings.Split(args.text("proto", "dubbo"), ",") {
		ports = append(ports, first+at)
		protocols = append(protocols, server.WithServerProtocol(protocol.WithProtocol(proto), protocol.WithID(proto+"-at"),
			protocol.WithIp(args.need("host")), protocol.WithPort(first+at)))
	}
	made, err := args.instance().NewServer(protocols...)
	check(err)
	options := []server.ServiceOption{
		server.WithSerialization(constant.Hessian2Serialization),
		server.WithVersion(args.text("version", "")),
		server.WithGroup(args.text("group", "")),
	}
	if weight, is := args["weight"]; is {
		options = append(options, server.WithParam(constant.WeightKey, weight))
	}
	if args.text("register", "true") == "false" {
		options = append(options, server.WithNotRegister())
	}
	check(made.Register(&Demo{args.need("name")}, described(), options...))
	go func() { check(made.Serve()) }()
	for _, port := range ports {
		listens(net.JoinHostPort(args.need("host"), strconv.Itoa(port)))
	}
	say(map[string]any{"ready": true, "peer": "dubbo-go", "version": constant.Version})
	console(func(words []string) (any, error) { return nil, fmt.Errorf("a provider has no cases: %s", words[0]) })
}

// listens waits until somebody does there.
func listens(address string) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if connection, err := net.Dial("tcp", address); err == nil {
			connection.Close()
			return
		}
	}
	die("nobody listens on " + address)
}
