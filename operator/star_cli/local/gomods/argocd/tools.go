//go:build tools

// Package tools keeps the program that is built as it is in go.mod.
package tools

import _ "sigs.k8s.io/kustomize/kustomize/v5"
