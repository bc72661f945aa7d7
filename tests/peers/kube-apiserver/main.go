// Command kube-apiserver is the API server of Kubernetes, whole and unchanged, from its own module.
//
// No controllers, no scheduler and no nodes come with it: nothing makes slices of Services, and nothing collects what has lost
// its owner. Needs an etcd of 3.5.13 or later; where both are and who may ask is said by flags.
package main

import (
	"os"
	_ "time/tzdata"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
