package disk

// Room is how much can still be written on a file system.
type Room struct {
	Free, Size int64 // octets: for us, and in all
	// FreeFiles and Files are how many files can be made, and how many there may be
	// in all; 0 of 0 where the file system knows no such bound.
	FreeFiles, Files int64
}
