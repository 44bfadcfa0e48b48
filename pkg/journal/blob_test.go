package journal_test

import "iter"

// blob is a state that takes any record.
type blob struct {
	records []string
	hold    chan struct{} // when not nil, Snapshot says that it has begun, and waits
}

func newBlob() *blob { return &blob{} }

func (b *blob) Apply(record []byte) error {
	b.records = append(b.records, string(record))
	return nil
}

func (b *blob) Snapshot() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if b.hold != nil {
			b.hold <- struct{}{}
			<-b.hold
		}
		for _, record := range b.records {
			if !yield([]byte(record)) {
				return
			}
		}
	}
}
