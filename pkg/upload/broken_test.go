package upload_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

// raw is a remote that does to each connection what serve says, after the head of
// the request was read.
func raw(t *testing.T, serve func(c *net.TCPConn, r *bufio.Reader)) (url string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			for line := ""; line != "\r\n"; {
				if line, err = r.ReadString('\n'); err != nil {
					break
				}
			}
			serve(c.(*net.TCPConn), r)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	return "http://" + listener.Addr().String()
}

// A remote that answers without reading the build, and closes the connection, so
// that our writes fail: the answer counts, not the broken pipe.
func TestEarlyAnswer(t *testing.T) {
	for _, test := range []struct {
		name    string
		read    int64 // octets of the body before the answer
		linger  bool  // closes without a reset
		answer  string
		want    string
		arrives bool
	}{
		{"not allowed", 0, false, "401 Unauthorized", "the remote answered 401 Unauthorized: no", false},
		{"too large", 0, false, "413 Request Entity Too Large", "the remote answered 413 Request Entity Too Large: no", false},
		{"too large, in the middle", 1 << 20, false, "413 Request Entity Too Large", "the remote answered 413 Request Entity Too Large: no", false},
		{"too large, and patient", 0, true, "413 Request Entity Too Large", "the remote answered 413 Request Entity Too Large: no", false},
		{"was there", 0, false, "409 Conflict", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := raw(t, func(c *net.TCPConn, r *bufio.Reader) {
				io.CopyN(io.Discard, r, test.read)
				fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 3\r\n\r\nno\n", test.answer)
				if test.linger {
					c.CloseWrite()
					io.Copy(io.Discard, r)
				}
			})
			content := make([]byte, 8<<20)
			for range 10 {
				b := newBuilds()
				o, logged, stop := run(t, url, b)
				o.Add(b.add(content), "hello")
				line := <-logged.lines
				stop()
				if test.arrives {
					if len(b.order) != 1 {
						t.Fatalf("not delivered: %s", line)
					}
				} else if got := <-b.parked; got != test.want {
					t.Fatalf("error %q, want %q", got, test.want)
				}
			}
		})
	}
}

func TestConnectionBreaks(t *testing.T) {
	for _, test := range []struct {
		name  string
		serve func(c *net.TCPConn, r *bufio.Reader)
	}{
		{"at once", func(*net.TCPConn, *bufio.Reader) {}},
		{"reset in the middle", func(c *net.TCPConn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 1<<20)
			c.SetLinger(0)
		}},
		{"instead of an answer", func(_ *net.TCPConn, r *bufio.Reader) { io.CopyN(io.Discard, r, 4<<20) }},
		{"within the answer", func(c *net.TCPConn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 4<<20)
			io.WriteString(c, "HTTP/1.1 201 Cre")
		}},
		{"no HTTP", func(c *net.TCPConn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 4<<20)
			io.WriteString(c, "220 mail.example.org ESMTP\r\n")
		}},
		{"an endless answer", func(c *net.TCPConn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 4<<20)
			io.WriteString(c, "HTTP/1.1 500 No\r\n\r\n")
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, strings.Repeat("sorry, ", 1000))
			}
		}},
		{"an endless head", func(c *net.TCPConn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 4<<20)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, strings.Repeat("x", 1000))
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tries := 0
			url := raw(t, func(c *net.TCPConn, r *bufio.Reader) {
				if tries++; tries < 3 {
					test.serve(c, r)
					return
				}
				n, err := io.CopyN(io.Discard, r, 4<<20)
				if err != nil {
					t.Errorf("reading the whole: %v after %d octets", err, n)
				}
				io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
			})
			b := newBuilds()
			o, logged, stop := run(t, url, b, quick)
			o.Add(b.add(make([]byte, 4<<20)), "hello")
			<-b.delivered
			stop()
			if text := logged.String(); strings.Count(text, `"level":"warn"`) != 2 || len(text) > 10_000 {
				t.Errorf("want two warnings in the log, not %s", text)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	listener.Close()
	b := newBuilds()
	o, logged, stop := run(t, "http://"+listener.Addr().String(), b)
	o.Add(b.add([]byte("x")), "hello")
	line := <-logged.lines
	stop()
	if !strings.Contains(line, "connect") {
		t.Errorf("log %s", line)
	}
}

// Also the many small writes of a result with a long console end up in few large
// ones, and nothing is kept.
func TestMemory(t *testing.T) {
	const size = 200 << 20
	received := make(chan int64, 1)
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		received <- n
		w.WriteHeader(http.StatusCreated)
	}))
	defer f.Close()
	line := []byte(strings.Repeat("x", 1<<10))
	b := newBuilds()
	b.size = size
	b.write = func(w io.Writer, _ int) error {
		for range size / len(line) {
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		return nil
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	o, _, stop := run(t, f.URL, b)
	o.Add(b.add(nil), "hello")
	<-b.delivered
	stop()
	runtime.ReadMemStats(&after)
	if n := <-received; n != size {
		t.Errorf("received %d octets", n)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("allocated %d octets in all", used)
	}
}
