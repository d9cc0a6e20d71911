package sqlbridge

import (
	"slices"
	"strings"
)

// token is a word of SQL text, a quoted name or literal without its quotes, or one other character.
type token struct {
	text   string
	quoted bool
}

// is reports whether a token is one of some words of SQL, given in upper case.
func (t token) is(words ...string) bool {
	return !t.quoted && slices.Contains(words, strings.ToUpper(t.text))
}

// tokens cuts SQL text, without its comments. It reports whether every quote and comment ends.
func tokens(text string) (list []token, whole bool) {
	for i := 0; i < len(text); {
		c := text[i]
		rest := text[i+1:]
		n := 0
		switch {
		case strings.IndexByte(" \t\r\n\f", c) >= 0:
			i++
			continue
		case c == '\'' || c == '"' || c == '`' || c == '[':
			end := c
			if c == '[' {
				end = ']'
			}
			var name string
			if name, n = quotedText(rest, end); n < 0 {
				return list, false
			}
			list = append(list, token{name, true})
		case strings.HasPrefix(text[i:], "--"):
			n = strings.IndexByte(rest, '\n') + 1
		case strings.HasPrefix(text[i:], "/*"):
			if n = strings.Index(text[i+2:], "*/") + 1; n > 0 {
				n += 2
			}
		case wordByte(c):
			for n < len(rest) && wordByte(rest[n]) {
				n++
			}
			list = append(list, token{text[i : i+1+n], false})
			i += 1 + n
			continue
		default:
			list = append(list, token{string(c), false})
			i++
			continue
		}
		if n == 0 {
			return list, false
		}
		i += 1 + n
	}
	return list, true
}

// quotedText reads up to a closing quote, which doubled stands for itself, and returns how many bytes that took; -1: there is none.
func quotedText(text string, end byte) (name string, n int) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == end {
			if end == ']' || i+1 == len(text) || text[i+1] != end {
				return b.String(), i + 1
			}
			i++
		}
		b.WriteByte(text[i])
	}
	return "", -1
}

func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// singleStatement reports whether no semicolon stands outside of quotes and comments.
func singleStatement(text string) bool {
	list, whole := tokens(text)
	return whole && !slices.Contains(list, token{text: ";"})
}

// written lists what the statements of a trigger's body write. It reports whether there is such a body.
func written(trigger []token) (names []string, ok bool) {
	for !ok { // a column may be called begin
		at := slices.IndexFunc(trigger, func(t token) bool { return t.is("BEGIN") }) + 1
		if at == 0 || at == len(trigger) {
			return nil, false
		}
		trigger = trigger[at:]
		ok = trigger[0].is("INSERT", "REPLACE", "UPDATE", "DELETE", "SELECT")
	}
	for len(trigger) > 0 {
		end := slices.Index(trigger, token{text: ";"})
		if end < 0 {
			break // at the END
		}
		if name, ok := target(trigger[:end]); ok {
			names = append(names, name)
		}
		trigger = trigger[end+1:]
	}
	return names, true
}

// hasOption reports whether a CREATE TABLE statement has a word after its columns: STRICT or WITHOUT.
func hasOption(create, word string) bool {
	list, _ := tokens(create)
	for _, t := range slices.Backward(list) {
		if t.is(word) || t.is(")") {
			return t.is(word)
		}
	}
	return false
}

// target names what a statement writes.
func target(statement []token) (name string, ok bool) {
	after := func(word string) int {
		return slices.IndexFunc(statement, func(t token) bool { return t.is(word) }) + 1
	}
	at := 0
	switch {
	case len(statement) == 0:
		return "", false
	case statement[0].is("INSERT", "REPLACE"):
		at = after("INTO")
	case statement[0].is("DELETE"):
		at = after("FROM")
	case statement[0].is("UPDATE"):
		if at = 1; len(statement) > 1 && statement[1].is("OR") {
			at = 3
		}
	}
	if at == 0 || at >= len(statement) {
		return "", false
	}
	return statement[at].text, true
}

// ignores reports whether a trigger has rows passed over in silence.
func ignores(trigger []token) bool {
	for i := range trigger {
		if trigger[i].is("RAISE") && i+2 < len(trigger) && trigger[i+2].is("IGNORE") {
			return true
		}
	}
	return false
}
