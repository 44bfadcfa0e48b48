package job

import (
	"strings"
	"unicode"
)

// Shorten bounds a text: of a longer one it keeps about the first most octets, and
// dots. A character is not divided.
func Shorten(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// Printable makes one line of a text that may hold anything.
func Printable(text string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, text))
}
