package wire_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"builder/pkg/job"
	"builder/pkg/wire"

	"github.com/google/uuid"
)

// The values in the JSON of the golden vectors.
type (
	octets   []byte
	instant  struct{ time.Time }
	period   job.Period
	identity uuid.UUID

	resultValue struct {
		Kind string
		Int  int64
		Msg  octets
	}
	jobValue struct {
		Name     octets
		Platform octets
		Script   octets
		Package  *octets `json:"opam_package"`
	}
	anyJobValue struct {
		Kind string
		Job  jobValue
	}
	fileValue struct{ Path, Data octets }
	itemValue struct {
		Kind     string
		Next     instant
		Period   period
		Job      anyJobValue
		Platform octets
		Jobs     []anyJobValue
	}
	runningValue struct {
		Started instant
		UUID    identity
		Job     jobValue
	}
	// messageValue has the fields of all messages.
	messageValue struct {
		UUID      identity
		Job       jobValue
		Result    resultValue
		Data      []fileValue
		Output    octets
		Timestamp int64 `json:"timestamp_ns"`
		Period    *period
		Name      octets
		Next      instant
		Typ       string
		Version   int64
		Platform  *octets
		Msg       octets
		Schedule  []itemValue
		Queues    []itemValue
		Running   []runningValue
		Dropped   []octets `json:"dropped_platforms"`
	}
	execValue struct {
		Job     jobValue
		UUID    identity
		Console []struct {
			Delta int64 `json:"delta_ns"`
			Data  octets
		}
		Started, Finished instant
		Result            resultValue
		Output            []fileValue
	}
)

func (o *octets) UnmarshalJSON(text []byte) error {
	var v struct {
		Hex string
		Len int
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	var err error
	if *o, err = hex.DecodeString(v.Hex); err == nil && len(*o) != v.Len {
		err = fmt.Errorf("%d octets, want %d", len(*o), v.Len)
	}
	return err
}

// UnmarshalJSON cuts to nanoseconds.
func (i *instant) UnmarshalJSON(text []byte) error {
	var v struct {
		Days     int64
		PsOfDay  int64  `json:"ps_of_day"`
		Readable string `json:"rfc3339"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	i.Time = time.Unix(v.Days*86400, v.PsOfDay/1000).UTC()
	return nil
}

func (p *period) UnmarshalJSON(text []byte) error {
	var name string
	if err := json.Unmarshal(text, &name); err != nil {
		return err
	}
	names := map[string]job.Period{"Hourly": job.Hourly, "Daily": job.Daily, "Weekly": job.Weekly, "Never": job.Never}
	value, ok := names[name]
	if !ok {
		return fmt.Errorf("period %q", name)
	}
	*p = period(value)
	return nil
}

func (u *identity) UnmarshalJSON(text []byte) error {
	var v struct{ Text, Hex string }
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	id, err := uuid.Parse(v.Text)
	*u = identity(id)
	return err
}

func (r resultValue) result(t *testing.T) job.Result {
	kinds := map[string]job.Kind{"Exited": job.Exited, "Signalled": job.Signalled, "Stopped": job.Stopped, "Msg": job.Failed}
	kind, ok := kinds[r.Kind]
	if !ok {
		t.Fatalf("result %q", r.Kind)
	}
	return job.Result{Kind: kind, Code: r.Int, Text: string(r.Msg)}
}

func (j jobValue) script() wire.ScriptJob {
	return wire.ScriptJob{Name: string(j.Name), Platform: string(j.Platform), Script: wire.Blob{Data: j.Script}}
}

func (j anyJobValue) job() wire.AnyJob {
	if j.Job.Package != nil {
		opamPackage := string(*j.Job.Package)
		return wire.AnyJob{ScriptJob: wire.ScriptJob{Name: string(j.Job.Name)}, OrbPackage: &opamPackage}
	}
	return wire.AnyJob{ScriptJob: j.Job.script()}
}

func (i itemValue) schedule() wire.ScheduleItem {
	return wire.ScheduleItem{Next: i.Next.Time, Period: job.Period(i.Period), Job: i.Job.job()}
}

func (i itemValue) queue() wire.PlatformQueue {
	q := wire.PlatformQueue{Platform: string(i.Platform)}
	for _, j := range i.Jobs {
		q.Jobs = append(q.Jobs, j.job())
	}
	return q
}

func files(values []fileValue) []wire.File {
	var list []wire.File
	for _, v := range values {
		list = append(list, wire.File{Path: string(v.Path), Data: wire.Blob{Data: v.Data}})
	}
	return list
}

// parseValue is what a vector's JSON says, in our types.
func parseValue(t *testing.T, v vector, text json.RawMessage) any {
	t.Helper()
	unmarshal := func(value any) {
		if err := json.Unmarshal(text, value); err != nil {
			t.Fatal(err)
		}
	}
	switch v.Type {
	case "state":
		var value []itemValue
		unmarshal(&value)
		return parseState(t, value)
	case "exec":
		var value execValue
		unmarshal(&value)
		e := execFile{Exec: wire.Exec{
			Job: value.Job.script(), UUID: value.UUID, Started: value.Started.Time,
			Finished: value.Finished.Time, Result: value.Result.result(t),
		}, Files: files(value.Output)}
		for _, line := range value.Console {
			e.Console = append(e.Console, job.Line{Delta: time.Duration(line.Delta), Data: line.Data})
		}
		return e
	}
	var value messageValue
	unmarshal(&value)
	return parseMessage(t, v.Constructor, value)
}

func parseState(t *testing.T, values []itemValue) []wire.StateItem {
	var items []wire.StateItem
	for _, v := range values {
		var item wire.StateItem
		switch v.Kind {
		case "Schedule":
			schedule := v.schedule()
			item.Schedule = &schedule
		case "Queue":
			queue := v.queue()
			item.Queue = &queue
		case "Dropped_platform":
			dropped := string(v.Platform)
			item.Dropped = &dropped
		default:
			t.Fatalf("state item %q", v.Kind)
		}
		items = append(items, item)
	}
	return items
}

func parseMessage(t *testing.T, constructor string, v messageValue) wire.Message {
	text := func(o *octets) *string {
		if o == nil {
			return nil
		}
		s := string(*o)
		return &s
	}
	switch constructor {
	case "Job_schedule":
		return wire.JobSchedule{UUID: uuid.UUID(v.UUID), Job: v.Job.script()}
	case "Job_finished":
		return wire.JobFinished{UUID: uuid.UUID(v.UUID), Result: v.Result.result(t), Files: files(v.Data)}
	case "Output":
		return wire.Output{UUID: uuid.UUID(v.UUID), Data: v.Output}
	case "Output_timestamped":
		return wire.Output{UUID: uuid.UUID(v.UUID), Data: v.Output, Delta: time.Duration(v.Timestamp), Stamped: true}
	case "Schedule":
		return wire.Schedule{Period: job.Period(*v.Period), Job: v.Job.script()}
	case "Schedule_orb_build":
		return wire.ScheduleOrb{Period: job.Period(*v.Period), Name: string(v.Job.Name), Package: string(*v.Job.Package)}
	case "Info":
		return wire.Info{}
	case "Info_reply":
		return parseInfoReply(v)
	case "Unschedule":
		return wire.Unschedule{Name: string(v.Name)}
	case "Observe":
		return wire.Observe{UUID: uuid.UUID(v.UUID)}
	case "Execute":
		return wire.Execute{Name: string(v.Name), Platform: text(v.Platform)}
	case "Reschedule":
		return wire.Reschedule{Name: string(v.Name), Next: v.Next.Time, Period: (*job.Period)(v.Period)}
	case "Client_hello":
		roles := map[string]wire.Role{"Client": wire.Client, "Worker": wire.Worker}
		return wire.ClientHello{Role: roles[v.Typ], Version: v.Version}
	case "Server_hello":
		return wire.ServerHello{}
	case "Job_requested":
		return wire.JobRequested{Platform: *text(v.Platform)}
	case "Drop_platform":
		return wire.DropPlatform{Platform: *text(v.Platform)}
	case "Undrop_platform":
		return wire.UndropPlatform{Platform: *text(v.Platform)}
	case "Success":
		return wire.Success{}
	case "Failure":
		return wire.Failure{Text: string(v.Msg)}
	}
	t.Fatalf("unknown constructor %q", constructor)
	return nil
}

func parseInfoReply(v messageValue) wire.InfoReply {
	var m wire.InfoReply
	for _, item := range v.Schedule {
		m.Schedule = append(m.Schedule, item.schedule())
	}
	for _, queue := range v.Queues {
		m.Queues = append(m.Queues, queue.queue())
	}
	for _, r := range v.Running {
		m.Running = append(m.Running, wire.RunningJob{
			Started: r.Started.Time, UUID: uuid.UUID(r.UUID), Job: r.Job.script(),
		})
	}
	for _, platform := range v.Dropped {
		m.Dropped = append(m.Dropped, string(platform))
	}
	return m
}
