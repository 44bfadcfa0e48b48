package sandbox

// Finding is one thing that a kind of sandbox needs of its machine.
type Finding struct {
	What string
	Err  error  // why it is missing; nil if it is there
	Help string // what to do about it
}
