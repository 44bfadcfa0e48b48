package disk

// LookAndRename is RenameNew where that takes two calls.
var LookAndRename = lookAndRename
