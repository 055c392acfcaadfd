// A peer: the trade as a well-known design in Go does it. net/http, a stock in memory under a global lock, then one
// counter in Redis taken down by a Lua script (EVALSHA) over a pool of connections. No booking id, no record, no replay.
//
//	reference PORT LOOPS REDIS-PORT SCRIPT-SHA LOCAL-STOCK whole|lean
//
// "whole" is the design as it is known: a request takes a connection from the pool, holds the lock, a channel of one, for as
// long as its order takes, Redis and the making of its answer included, and then opens the log, appends a line and closes it.
// "lean" is kinder to it: the lock for the stock alone, and no log. Go's standard library only. Prints "ready" once it
// listens.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
)

const logPath = "stat.log"

// What a client is told.
type outcome struct {
	Code int    `json:"code"`
	Msg  string `json:"msg"`
}

var (
	granted = outcome{1, "Ticket purchase successful"}
	soldOut = outcome{-1, "Sold out"}
)

// One connection to Redis; used by one request at a time.
type connection struct {
	socket net.Conn
	reader *bufio.Reader
}

// Connections that nobody uses; as many as there were requests at a time.
type pool struct {
	address string
	idle    chan *connection
}

func (p *pool) get() (*connection, error) {
	select {
	case free := <-p.idle:
		return free, nil
	default:
	}
	socket, err := net.Dial("tcp", p.address)
	if err != nil {
		return nil, err
	}
	return &connection{socket, bufio.NewReader(socket)}, nil
}

func (p *pool) put(c *connection) {
	select {
	case p.idle <- c:
	default:
		c.socket.Close()
	}
}

// Sends one command whose reply is an integer.
func (c *connection) ask(command []byte) (int, error) {
	if _, err := c.socket.Write(command); err != nil {
		return 0, err
	}
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != ':' {
		return 0, fmt.Errorf("Redis says %q", line)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

type shop struct {
	redis   *pool
	command []byte
	// Holds its one token while nobody has the lock.
	lock  chan int
	stock int
	sold  int
	whole bool
}

// Takes one ticket from the stock in memory; the lock is held.
func (s *shop) take() bool {
	if s.sold >= s.stock {
		return false
	}
	s.sold++
	return true
}

// Takes one ticket from the stock in memory and counts it in Redis. Gives the answer and how many were sold here.
func (s *shop) order() (body []byte, sold int, err error) {
	redis, err := s.redis.get()
	if err != nil {
		return nil, 0, err
	}
	<-s.lock
	taken, sold := s.take(), s.sold
	if s.whole {
		defer func() { s.lock <- 1 }()
	} else {
		s.lock <- 1
	}
	told := soldOut
	if taken {
		counted, err := redis.ask(s.command)
		if err != nil {
			redis.socket.Close()
			return nil, sold, err
		}
		if counted == 1 {
			told = granted
		}
	}
	s.redis.put(redis)
	body, err = json.Marshal(told)
	return body, sold, err
}

func (s *shop) handle(answer http.ResponseWriter, _ *http.Request) {
	body, sold, err := s.order()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		answer.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	answer.Header().Set("Content-Type", "application/json")
	answer.Write(body)
	if s.whole {
		writeLog(fmt.Sprintf("answer:%s,localSales:%d\r\n", body, sold))
	}
}

func writeLog(line string) {
	file, err := os.OpenFile(logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer file.Close()
	io.WriteString(file, line)
}

func fail(problem any) {
	fmt.Fprintln(os.Stderr, problem)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 7 {
		fail("takes PORT LOOPS REDIS-PORT SCRIPT-SHA LOCAL-STOCK whole|lean")
	}
	port, redisPort, script, manner := os.Args[1], os.Args[3], os.Args[4], os.Args[6]
	loops, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fail(err)
	}
	stock, err := strconv.Atoi(os.Args[5])
	if err != nil {
		fail(err)
	}
	runtime.GOMAXPROCS(loops)
	var command strings.Builder
	words := []string{"EVALSHA", script, "1", "peer:stock"}
	fmt.Fprintf(&command, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(word), word)
	}
	idle := make(chan *connection, 10000)
	redis := &pool{address: "127.0.0.1:" + redisPort, idle: idle}
	counter := &shop{redis: redis, command: []byte(command.String()), stock: stock, whole: manner == "whole"}
	counter.lock = make(chan int, 1)
	counter.lock <- 1
	http.HandleFunc("/buy/ticket", counter.handle)
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		fail(err)
	}
	fmt.Println("ready")
	fail(http.Serve(listener, nil))
}
