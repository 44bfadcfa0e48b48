package der

import (
	"fmt"
	"time"
)

// parseGeneralizedTime accepts what the reference accepts: minutes and seconds
// may be absent, the zone is Z, ±hhmm, or absent for UTC, and a fraction's
// digits count as milliseconds: ".5" is 5 ms, of ".123456" the first three count.
func parseGeneralizedTime(s string) (time.Time, error) {
	p := timeParser{rest: s}
	year := p.digits(4)
	t, ok := p.after(year, true)
	if !ok {
		return time.Time{}, fmt.Errorf("invalid GeneralizedTime %q", s)
	}
	return t, nil
}

// parseUTCTime accepts YYMMDDhhmm[ss] with a zone; 50 to 99 mean the 1900s
// (X.690 leaves that to profiles; RFC 5280, 4.1.2.5.1).
func parseUTCTime(s string) (time.Time, error) {
	p := timeParser{rest: s}
	year := p.digits(2)
	if year < 50 {
		year += 100
	}
	t, ok := p.after(year+1900, false)
	if !ok {
		return time.Time{}, fmt.Errorf("invalid UTCTime %q", s)
	}
	return t, nil
}

// timeParser takes digits off the front; bad sticks.
type timeParser struct {
	rest string
	bad  bool
}

func (p *timeParser) digits(n int) int {
	if len(p.rest) < n {
		p.bad = true
		return 0
	}
	v := 0
	for _, c := range []byte(p.rest[:n]) {
		if c < '0' || c > '9' {
			p.bad = true
			return 0
		}
		v = v*10 + int(c-'0')
	}
	p.rest = p.rest[n:]
	return v
}

func (p *timeParser) atDigit() bool {
	return p.rest != "" && p.rest[0] >= '0' && p.rest[0] <= '9'
}

// after reads everything behind the year.
func (p *timeParser) after(year int, generalized bool) (time.Time, bool) {
	month, day, hour := p.digits(2), p.digits(2), p.digits(2)
	minute, second, milli := 0, 0, 0
	if p.atDigit() || !generalized {
		minute = p.digits(2)
		if p.atDigit() {
			second = p.digits(2)
		}
	}
	if generalized && p.rest != "" && p.rest[0] == '.' {
		p.rest = p.rest[1:]
		for n := 0; p.atDigit(); n++ {
			if d := p.digits(1); n < 3 {
				milli = milli*10 + d
			}
		}
	}
	zone := p.zone(generalized)
	// A leap second counts as the second after it, as in the reference.
	if p.bad || p.rest != "" || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, 0, 0, time.UTC)
	if t.Month() != time.Month(month) || t.Day() != day {
		return time.Time{}, false // 30 February
	}
	t = t.Add(time.Duration(second)*time.Second + time.Duration(milli)*time.Millisecond - zone)
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, false // could not be written again
	}
	return t, true
}

// zone reads Z, ±hhmm or, where optional, nothing.
func (p *timeParser) zone(optional bool) time.Duration {
	if p.rest == "" {
		p.bad = p.bad || !optional
		return 0
	}
	sign := p.rest[0]
	p.rest = p.rest[1:]
	switch sign {
	case 'Z':
		return 0
	case '+', '-':
		offset := time.Duration(p.digits(2))*time.Hour + time.Duration(p.digits(2))*time.Minute
		if sign == '-' {
			return -offset
		}
		return offset
	}
	p.bad = true
	return 0
}
