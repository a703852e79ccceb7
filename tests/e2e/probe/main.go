// probe is the program of the cluster tests' pods: `serve` answers HTTP on port 8080, `get URL` prints one answer.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("probe failed:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 1 && arguments[0] == "serve" {
		http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(answer, "served as user %d", os.Getuid())
		})
		return http.ListenAndServe(":8080", nil)
	}
	if len(arguments) != 2 || arguments[0] != "get" {
		return fmt.Errorf("usage: probe serve | probe get URL")
	}
	answer, err := get(arguments[1])
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	fmt.Printf("answer %d: %s\n", answer.StatusCode, body)
	return err
}

// get asks until there is an answer: a Service's rules follow its endpoints within seconds, not at once.
func get(url string) (*http.Response, error) {
	client := http.Client{Timeout: 5 * time.Second}
	deadline := time.Now().Add(30 * time.Second)
	for {
		answer, err := client.Get(url)
		if err == nil || time.Now().After(deadline) {
			return answer, err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
