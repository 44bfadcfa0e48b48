package sandbox

// look tells nothing here: times of files may be as coarse as seconds, so a place is
// used once.
type look struct{}

func lookAt(string) (look, bool) { return look{}, false }

func lastChange(string) untouched { return untouched{} }
