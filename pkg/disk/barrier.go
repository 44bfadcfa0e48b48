package disk

// Barrier makes all the data durable that is written to one file system, for less
// than a [File.Sync] of each file when they are many. Names are not its business.
type Barrier interface {
	// Sync makes all data durable that was written before the call to any file
	// that was opened after the barrier was, closed since or not. An error says that
	// some of what was written since the barrier was opened is lost; as with
	// [File.Sync], calling it once more proves nothing.
	Sync() error
	Close() error
}
