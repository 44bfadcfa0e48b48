package main

// systemKinds are those that only this system has.
func systemKinds() []kind { return []kind{&containers{}} }
