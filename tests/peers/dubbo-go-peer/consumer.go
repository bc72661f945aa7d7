package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dubbo.apache.org/dubbo-go/v3/client"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
)

// caller calls the service, of whom the registry knows or past it.
type caller struct {
	made     *client.Client
	args     arguments
	services map[string]*client.Connection
}

func (c *caller) options(proto string) []client.ReferenceOption {
	return []client.ReferenceOption{
		client.WithProtocol(proto),
		client.WithSerialization(constant.Hessian2Serialization),
		client.WithVersion(c.args.text("version", "")),
		client.WithGroup(c.args.text("group", "")),
		client.WithRequestTimeout(3 * time.Second),
		client.WithRetries(0),
		client.WithCluster(constant.ClusterKeyFailfast),
	}
}

// service is referred to once for each URL; "" is whom the registry knows.
func (c *caller) service(proto, url string) *client.Connection {
	key := proto + " " + url
	if known, is := c.services[key]; is {
		return known
	}
	options := c.options(proto)
	if url != "" {
		options = append(options, client.WithURL(url))
	}
	info := &client.ClientInfo{InterfaceName: service, MethodNames: []string{"who", "echo", "work", "crash"}}
	made, err := c.made.DialWithInfo(service, info, options...)
	check(err)
	c.services[key] = made
	return made
}

func call(on *client.Connection, method string, values ...any) (string, error) {
	answer := ""
	err := on.CallUnary(context.Background(), values, &answer, method)
	return answer, err
}

// flow calls who without a pause until it is told to ebb.
type flow struct {
	stop chan struct{}
	told chan string
}

func (c *caller) begin(proto string) *flow {
	begun := &flow{make(chan struct{}), make(chan string, 1)}
	on := c.service(proto, "")
	go func() {
		seen := map[string]bool{}
		for {
			select {
			case <-begun.stop:
				begun.told <- told(seen)
				return
			default:
			}
			who, err := call(on, "who")
			if err != nil {
				who = "failed: " + err.Error()
			}
			seen[who] = true
		}
	}()
	return begun
}

// end answers who was called, and what failed.
func (f *flow) end() string {
	close(f.stop)
	return <-f.told
}

func told(seen map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(seen)), "\n") }

// many makes so many calls.
func (c *caller) many(proto, calls string) (string, error) {
	count, err := strconv.Atoi(calls)
	check(err)
	seen := map[string]bool{}
	for range count {
		who, err := call(c.service(proto, ""), "who")
		if err != nil {
			return "", err
		}
		seen[who] = true
	}
	return told(seen), nil
}

// consume refers to the service, and asks as it is told to.
func consume(args arguments) {
	made, err := args.instance().NewClient()
	check(err)
	on := &caller{made, args, map[string]*client.Connection{}}
	// By the registry it calls by one protocol: at the interface level dubbo-go looks for one alone.
	proto := args.text("proto", "dubbo")
	if args["registry"] != "" {
		on.service(proto, "")
	}
	var flows *flow
	say(map[string]any{"ready": true, "peer": "dubbo-go", "version": constant.Version})
	console(func(words []string) (any, error) {
		switch words[0] {
		case "who":
			return call(on.service(proto, ""), "who")
		case "echo", "crash":
			return call(on.service(proto, ""), words[0], words[1])
		// many N: so many calls of who, and who answered.
		case "many":
			return on.many(proto, words[1])
		case "flow":
			flows = on.begin(proto)
			return "flows", nil
		case "ebb":
			return flows.end(), nil
		// at URL TOKEN: whoever is there.
		case "at":
			url := words[1]
			return call(on.service(strings.Split(url, ":")[0], url), "work", words[2])
		}
		return nil, fmt.Errorf("no such case: %s", words[0])
	})
}
