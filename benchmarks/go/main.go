// A record changed under a flock, as gVisor's container state does it, and with rename.
//
// Usage: peer DIRECTORY. For each line "MODE COUNT" on its standard input it locks, loads, saves and
// unlocks DIRECTORY/record.state so many times, and prints the seconds that took. Modes: writefile
// (truncate and write), rename (temporary file and rename), durable (the same, both synced).
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

type identity struct {
	Pid   int    `json:"pid"`
	Start int64  `json:"start"`
	Boot  string `json:"boot"`
	Pidns int64  `json:"pidns"`
}

type exit struct {
	ExitCode   *int    `json:"exit_code"`
	Signal     *int    `json:"signal"`
	OomKilled  *bool   `json:"oom_killed"`
	Reason     string  `json:"reason"`
	StartedAt  *string `json:"started_at"`
	FinishedAt *string `json:"finished_at"`
}

type record struct {
	Schema      int        `json:"schema"`
	Revision    int        `json:"revision"`
	Id          string     `json:"id"`
	Instance    string     `json:"instance"`
	Sandbox     string     `json:"sandbox"`
	Status      string     `json:"status"`
	PausedFrom  *string    `json:"paused_from"`
	CreatedAt   time.Time  `json:"created_at"`
	StartedAt   *time.Time `json:"started_at"`
	Owner       string     `json:"owner"`
	Uid         int        `json:"uid"`
	Bundle      *string    `json:"bundle"`
	Platform    string     `json:"platform"`
	Supervision string     `json:"supervision"`
	Creator     *identity  `json:"creator"`
	Init        *identity  `json:"init"`
	Supervisor  *identity  `json:"supervisor"`
	Gofer       *identity  `json:"gofer"`
	Cgroups     []string   `json:"cgroups"`
	Hooks       []string   `json:"hooks"`
	Protocol    int        `json:"protocol"`
	Deletion    *struct{}  `json:"deletion"`
	Exit        *exit      `json:"exit"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func replace(directory, path string, data []byte, durable bool) {
	temporary := path + "~"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	check(err)
	_, err = file.Write(data)
	check(err)
	if durable {
		check(file.Sync())
	}
	check(file.Close())
	check(os.Rename(temporary, path))
	if durable {
		parent, err := os.Open(directory)
		check(err)
		check(parent.Sync())
		check(parent.Close())
	}
}

func cycle(directory, mode string) {
	path := filepath.Join(directory, "record.state")
	lock, err := os.OpenFile(filepath.Join(directory, "record.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	check(err)
	check(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	data, err := os.ReadFile(path)
	check(err)
	var found record
	check(json.Unmarshal(data, &found))
	found.Revision++
	data, err = json.Marshal(&found)
	check(err)
	if mode == "writefile" {
		check(os.WriteFile(path, data, 0o640))
	} else {
		replace(directory, path, data, mode == "durable")
	}
	check(syscall.Flock(int(lock.Fd()), syscall.LOCK_UN))
	check(lock.Close())
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var mode string
		var count int
		_, err := fmt.Sscan(lines.Text(), &mode, &count)
		check(err)
		began := time.Now()
		for i := 0; i < count; i++ {
			cycle(os.Args[1], mode)
		}
		fmt.Println(time.Since(began).Seconds())
	}
}
