package disk

// Barrier makes everything durable that is written to one file system, for less
// than a [File.Sync] of each file and an [FS.SyncDir] of each directory when they are
// many.
type Barrier interface {
	// Sync makes all data durable that was written before the call to any file
	// that was opened after the barrier was, closed since or not; and the names that
	// were made, changed or removed since the barrier was opened. An error says that
	// some of that is lost; as with [File.Sync], calling it once more proves nothing.
	Sync() error
	Close() error
}
