package wire_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"
)

func TestBudget(t *testing.T) {
	const size = 10 << 20 // two do not fit into the smallest budget
	script := bytes.Repeat([]byte("x"), size)
	message := frame(encoded(t, wire.Encode(wire.Schedule{Job: wire.ScriptJob{Script: wire.Blob{Data: script}}})))
	receive := func(t *testing.T, conn *wire.Conn) error {
		m, err := conn.Receive(t.Context(), wire.KindSchedule)
		if err == nil && len(m.(wire.Schedule).Job.Script.Data) != size {
			t.Error("not the script")
		}
		return err
	}
	send := func(t *testing.T, group *sync.WaitGroup, budget *wire.Budget, input []byte) *wire.Conn {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		group.Go(func() { far.Write(input) }) // the receiver tells
		return wire.NewConn(near, budget)
	}
	t.Run("one after the other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := wire.NewBudget(0)
			var group sync.WaitGroup
			var mutex sync.Mutex
			held, most, done := 0, 0, 0
			for range 4 {
				conn := send(t, &group, budget, message)
				group.Go(func() {
					if err := receive(t, conn); err != nil {
						t.Error(err)
					}
					mutex.Lock()
					held++
					done++
					most = max(most, held)
					mutex.Unlock()
					time.Sleep(time.Second) // at work with the message
					mutex.Lock()
					held--
					mutex.Unlock()
					conn.Close()
				})
			}
			group.Wait()
			if done != 4 || most != 1 {
				t.Errorf("%d of 4 received, %d at once, want 1", done, most)
			}
		})
	})
	t.Run("a slow one is cut", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := wire.NewBudget(0)
			var group sync.WaitGroup
			slow := send(t, &group, budget, message[:len(message)/2])
			group.Go(func() {
				if err := receive(t, slow); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %v, want %v", err, os.ErrDeadlineExceeded)
				}
			})
			synctest.Wait()
			if err := receive(t, send(t, &group, budget, message)); err != nil {
				t.Errorf("the one behind it: %v", err)
			}
			slow.Close()
			group.Wait()
		})
	})
	t.Run("small frames need none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			budget := wire.NewBudget(0)
			var group sync.WaitGroup
			if err := receive(t, send(t, &group, budget, message)); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			small := frame(wire.Encode(wire.Lines{Lines: []job.Line{{Data: make([]byte, 50<<10)}}}).Data)
			if _, err := send(t, &group, budget, small).Receive(t.Context(), wire.KindLines); err != nil || time.Since(begun) > 0 {
				t.Errorf("after %v: %v", time.Since(begun), err)
			}
			group.Wait()
		})
	})
}
