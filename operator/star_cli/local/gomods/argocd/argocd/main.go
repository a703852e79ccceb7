// Argo CD's command line, API server, application controller and repository server in one program under its own name:
// the module's main package would be built as "cmd", and holds servers that nobody here starts.
// ARGOCD_BINARY_NAME says which of them it is, as in Argo CD's own program.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	controller "github.com/argoproj/argo-cd/v3/cmd/argocd-application-controller/commands"
	askpass "github.com/argoproj/argo-cd/v3/cmd/argocd-git-ask-pass/commands"
	repositories "github.com/argoproj/argo-cd/v3/cmd/argocd-repo-server/commands"
	server "github.com/argoproj/argo-cd/v3/cmd/argocd-server/commands"
	cli "github.com/argoproj/argo-cd/v3/cmd/argocd/commands"
)

func main() {
	name := filepath.Base(os.Args[0])
	if given := os.Getenv("ARGOCD_BINARY_NAME"); given != "" {
		name = given
	}
	commands := map[string]func() *cobra.Command{
		"argocd-application-controller": controller.NewCommand,
		"argocd-git-ask-pass":           askpass.NewCommand,
		"argocd-repo-server":            repositories.NewCommand,
		"argocd-server":                 server.NewCommand,
	}
	make, known := commands[name]
	if !known {
		make = cli.NewCommand
	}
	if err := make().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
