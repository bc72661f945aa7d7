// Command dubbo-go-peer is an application on dubbo-go 3.3: a provider of DemoService's calls of plain texts, or a consumer.
//
//	dubbo-go-peer provider --name NAME --app APP --host HOST --port PORT ...
//	dubbo-go-peer consumer --app APP ...
//
// Both take --proto (dubbo or tri; a provider takes both, by comma), --registry (host:port of an etcd), --register-type
// (interface or service; a provider takes all), --version and --group. A provider has --weight, --tag, --metadata (local or
// remote) and --register false besides. What it prints are JSON lines: one when it is ready, and one for each line that it
// reads. It must never answer a case that it did not run, and ends when its stdin does.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"dubbo.apache.org/dubbo-go/v3"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failfast"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/cluster/failover"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/loadbalance/random"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/router/condition"
	_ "dubbo.apache.org/dubbo-go/v3/cluster/router/tag"
	"dubbo.apache.org/dubbo-go/v3/common/constant"
	_ "dubbo.apache.org/dubbo-go/v3/filter/filter_impl"
	_ "dubbo.apache.org/dubbo-go/v3/metadata/mapping/metadata"
	_ "dubbo.apache.org/dubbo-go/v3/metadata/report/etcd"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/dubbo"
	_ "dubbo.apache.org/dubbo-go/v3/protocol/triple"
	_ "dubbo.apache.org/dubbo-go/v3/proxy/proxy_factory"
	"dubbo.apache.org/dubbo-go/v3/registry"
	_ "dubbo.apache.org/dubbo-go/v3/registry/directory"
	_ "dubbo.apache.org/dubbo-go/v3/registry/etcdv3"
	_ "dubbo.apache.org/dubbo-go/v3/registry/protocol"
	_ "dubbo.apache.org/dubbo-go/v3/registry/servicediscovery"
)

// service is the interface of the Java peers, of which the calls of plain texts are served here.
const service = "peer.api.DemoService"

func main() {
	if len(os.Args) < 2 {
		die("usage: dubbo-go-peer provider|consumer --key value ...")
	}
	answers = own()
	args := read(os.Args[2:])
	switch os.Args[1] {
	case "provider":
		provide(args)
	case "consumer":
		consume(args)
	default:
		die("no such role: " + os.Args[1])
	}
}

// arguments are "--key value" pairs and nothing else.
type arguments map[string]string

func read(argv []string) arguments {
	known := " name app host port proto registry register-type register version group weight tag metadata "
	args := arguments{}
	for i := 0; i < len(argv); i += 2 {
		key, is := strings.CutPrefix(argv[i], "--")
		if !is || !strings.Contains(known, " "+key+" ") || i+1 == len(argv) {
			die("unexpected " + argv[i])
		}
		args[key] = argv[i+1]
	}
	return args
}

func (args arguments) need(key string) string {
	value, is := args[key]
	if !is {
		die("--" + key + " is needed")
	}
	return value
}

func (args arguments) text(key, otherwise string) string {
	if value, is := args[key]; is {
		return value
	}
	return otherwise
}

// instance is what provider and consumer have in common: who they are, and their registry.
func (args arguments) instance() *dubbo.Instance {
	options := []dubbo.InstanceOption{dubbo.WithName(args.need("app")), dubbo.WithTag(args.text("tag", ""))}
	if args.text("metadata", constant.DefaultMetadataStorageType) == constant.RemoteMetadataStorageType {
		options = append(options, dubbo.WithRemoteMetadata())
	}
	if address, is := args["registry"]; is {
		found := []registry.Option{registry.WithEtcdV3(), registry.WithAddress(address)}
		switch kind := args.text("register-type", constant.RegistryTypeService); kind {
		case constant.RegistryTypeAll:
			found = append(found, registry.WithRegisterServiceAndInterface())
		case constant.RegistryTypeInterface:
			found = append(found, registry.WithRegisterInterface())
		case constant.RegistryTypeService:
		default:
			die("no such way to register: " + kind)
		}
		options = append(options, dubbo.WithRegistry(found...))
	}
	made, err := dubbo.NewInstance(options...)
	check(err)
	return made
}

// console runs one case a line, until there are no more.
func console(ran func(words []string) (any, error)) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		value, err := ran(words)
		if err != nil {
			say(map[string]any{"case": words[0], "ok": false, "message": err.Error()})
			continue
		}
		say(map[string]any{"case": words[0], "ok": true, "value": value})
	}
	os.Exit(0)
}

// answers is what was stdout. The framework's log is written to stderr instead: its lines are long enough to be torn by ours.
var (
	answers *os.File
	output  sync.Mutex
)

func own() *os.File {
	stdout, err := syscall.Dup(syscall.Stdout)
	check(err)
	check(syscall.Dup3(syscall.Stderr, syscall.Stdout, 0))
	return os.NewFile(uintptr(stdout), "answers")
}

func say(value any) {
	text, err := json.Marshal(value)
	check(err)
	output.Lock()
	defer output.Unlock()
	_, err = answers.Write(append(text, '\n'))
	check(err)
}

func check(err error) {
	if err != nil {
		die(err.Error())
	}
}

func die(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}
