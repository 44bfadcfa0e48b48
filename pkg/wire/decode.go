package wire

import (
	"errors"
	"fmt"
	"time"

	"builder/pkg/der"
	"builder/pkg/job"
)

// Decode reads one message of the reference's protocol or ours that is wholly
// in memory. Streamed kinds are read by [Conn.Receive] only.
func Decode(data []byte) (Message, error) {
	r := der.NewReader(data)
	kind, in := r.Choice()
	r.Done()
	if err := r.Err(); err != nil {
		return nil, err
	}
	m := decodeBody(Kind(kind), &in)
	in.Done()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%v: %w", Kind(kind), err)
	}
	return m, nil
}

// decodeBody reads the content behind the tag of kind. A Reader that failed
// makes the result worthless; the caller asks it.
func decodeBody(kind Kind, r *der.Reader) Message {
	if kind >= KindWelcome {
		return decodeOwn(kind, r)
	}
	switch kind {
	case KindJobSchedule:
		return decodeStrict(r, func(in *der.Reader) Message {
			return JobSchedule{UUID: job.DecodeUUID(in), Job: decodeScriptJob(in)}
		})
	case KindOutput:
		return decodeStrict(r, decodeOutput)
	case KindSchedule:
		return decodeStrict(r, func(in *der.Reader) Message {
			return Schedule{Period: decodePeriod(in), Job: decodeScriptJob(in)}
		})
	case KindInfo:
		r.Null()
		return Info{}
	case KindInfoReply, KindInfoReplyOld:
		return decodeStrict(r, func(in *der.Reader) Message { return decodeInfoReply(kind, in) })
	case KindUnschedule:
		return Unschedule{Name: r.Text()}
	case KindObserve:
		return Observe{UUID: job.DecodeUUID(r)}
	case KindExecuteOld:
		return Execute{Name: r.Text()}
	case KindScheduleOrb:
		return decodeStrict(r, decodeScheduleOrb)
	case KindReschedule:
		return decodeStrict(r, decodeReschedule)
	case KindClientHello:
		return decodeStrict(r, decodeClientHello)
	case KindServerHello:
		r.Null()
		return ServerHello{}
	case KindJobRequested:
		return JobRequested{Platform: r.Text()}
	case KindDropPlatform:
		return DropPlatform{Platform: r.Text()}
	case KindSuccess:
		r.Null()
		return Success{}
	case KindFailure:
		return Failure{Text: r.Text()}
	case KindExecute:
		return decodeStrict(r, decodeExecute)
	case KindUndropPlatform:
		return UndropPlatform{Platform: r.Text()}
	default:
		r.Fail(errors.New("unknown or retired message"))
		return nil
	}
}

// decodeStrict reads a SEQUENCE in which nothing unknown may follow, as the
// reference does.
func decodeStrict(r *der.Reader, body func(*der.Reader) Message) Message {
	in := r.Enter(der.Sequence)
	m := body(&in)
	in.Done()
	return m
}

func decodeOutput(in *der.Reader) Message {
	m := Output{UUID: job.DecodeUUID(in), Data: in.Octets()}
	if in.More() {
		m.Stamped = true
		m.Delta = time.Duration(in.Int())
	}
	return m
}

func decodeInfoReply(kind Kind, in *der.Reader) Message {
	var m InfoReply
	for items := in.Enter(der.Sequence); items.More(); {
		m.Schedule = append(m.Schedule, decodeScheduleItem(&items))
	}
	for queues := in.Enter(der.Sequence); queues.More(); {
		m.Queues = append(m.Queues, decodePlatformQueue(&queues))
	}
	for running := in.Enter(der.Sequence); running.More(); {
		one := running.Enter(der.Sequence)
		m.Running = append(m.Running, RunningJob{
			Started: one.Time(), UUID: job.DecodeUUID(&one), Job: decodeScriptJob(&one),
		})
		one.Done()
	}
	if kind == KindInfoReply {
		for dropped := in.Enter(der.Sequence); dropped.More(); {
			m.Dropped = append(m.Dropped, dropped.Text())
		}
	}
	return m
}

func decodeScheduleOrb(in *der.Reader) Message {
	m := ScheduleOrb{Period: decodePeriod(in)}
	m.Name, m.Package = decodeOrb(in)
	return m
}

func decodeReschedule(in *der.Reader) Message {
	m := Reschedule{Name: in.Text(), Next: in.Time()}
	if in.More() {
		p := decodePeriod(in)
		m.Period = &p
	}
	return m
}

func decodeClientHello(in *der.Reader) Message {
	role, null := in.Choice()
	null.Null()
	null.Done()
	if in.Err() == nil && Role(role) != Client && Role(role) != Worker {
		in.Fail(fmt.Errorf("unknown role [%d]", role))
	}
	return ClientHello{Role: Role(role), Version: in.Int()}
}

func decodeExecute(in *der.Reader) Message {
	m := Execute{Name: in.Text()}
	if in.More() {
		platform := in.Text()
		m.Platform = &platform
	}
	return m
}

// noPlatform is what the reference reads where an old peer names none.
const noPlatform = "no-platform"

// decodeScriptJob reads the reference's ScriptJob; its files are ignored there
// and here.
func decodeScriptJob(r *der.Reader) ScriptJob {
	in := r.Enter(der.Sequence)
	j := ScriptJob{Name: in.Text(), Script: Blob{Data: in.Octets()}, Platform: noPlatform}
	for files := in.Enter(der.Sequence); files.More(); {
		file := files.Enter(der.Sequence)
		file.Octets()
		file.Octets()
		file.Done()
	}
	if in.More() {
		j.Platform = in.Text()
	}
	in.Done()
	return j
}

func decodeAnyJob(r *der.Reader) AnyJob {
	choice, in := r.Choice()
	var j AnyJob
	switch choice {
	case 0:
		j.ScriptJob = decodeScriptJob(&in)
	case 1:
		name, opamPackage := decodeOrb(&in)
		j.Name, j.OrbPackage = name, &opamPackage
	default:
		r.Fail(fmt.Errorf("unknown job [%d]", choice))
	}
	in.Done()
	return j
}

func decodeOrb(r *der.Reader) (name, opamPackage string) {
	in := r.Enter(der.Sequence)
	name, opamPackage = in.Text(), in.Text()
	in.Done()
	return name, opamPackage
}

func decodeScheduleItem(r *der.Reader) ScheduleItem {
	in := r.Enter(der.Sequence)
	item := ScheduleItem{Next: in.Time(), Period: decodePeriod(&in), Job: decodeAnyJob(&in)}
	in.Done()
	return item
}

func decodePlatformQueue(r *der.Reader) PlatformQueue {
	in := r.Enter(der.Sequence)
	queue := PlatformQueue{Platform: in.Text()}
	jobs := in.Enter(der.Sequence)
	for jobs.More() {
		queue.Jobs = append(queue.Jobs, decodeAnyJob(&jobs))
	}
	in.Done()
	return queue
}

func decodePeriod(r *der.Reader) job.Period {
	choice, in := r.Choice()
	in.Null()
	in.Done()
	if r.Err() == nil && choice > int(job.Never) {
		r.Fail(fmt.Errorf("unknown period [%d]", choice))
	}
	return job.Period(choice)
}

// decodeResult reads the reference's Result.
func decodeResult(r *der.Reader) job.Result {
	choice, in := r.Choice()
	res := job.Result{Kind: job.Kind(choice)}
	switch res.Kind {
	case job.Exited, job.Signalled, job.Stopped:
		res.Code = in.Int()
	case job.Failed:
		res.Text = in.Text()
	default:
		r.Fail(fmt.Errorf("unknown result [%d]", choice))
	}
	in.Done()
	return res
}
