package crdt

import "fmt"

// Rewrite puts other keys and values in the place of those in encoded blocks and deltas, and leaves everything else as it is. It needs
// no schemas: the form alone says where keys and values are. Both functions are given only what can be decoded.
type Rewrite struct {
	Key   func(Key) (Key, error)
	Value func(Value) (Value, error)
}

// Block returns the block with other keys and values.
func (w Rewrite) Block(s string) (string, error) {
	r := rewriter{cursor: cursor{s: s}, Rewrite: w}
	err := r.block()
	if err == nil && !r.done() {
		err = r.errorf("%d bytes after the block", len(r.s)-r.i)
	}
	if err != nil {
		return "", fmt.Errorf("crdt: block: %w", err)
	}
	return string(r.out), nil
}

// Delta returns the delta with other keys and values.
func (w Rewrite) Delta(s string) (string, error) {
	r := rewriter{cursor: cursor{s: s}, Rewrite: w}
	err := r.delta()
	if err == nil && !r.done() {
		err = r.errorf("%d bytes after the delta", len(r.s)-r.i)
	}
	if err != nil {
		return "", fmt.Errorf("crdt: delta: %w", err)
	}
	return string(r.out), nil
}

// rewriter reads an encoding and writes it again.
type rewriter struct {
	cursor
	Rewrite
	out []byte
	at  int // up to where the input is written
}

// flush writes what was read and is to stay as it is.
func (r *rewriter) flush() {
	r.out = append(r.out, r.s[r.at:r.i]...)
	r.at = r.i
}

func (r *rewriter) putKey() error {
	r.flush()
	k, err := r.key()
	if err == nil {
		k, err = r.Key(k)
	}
	if err != nil {
		return err
	}
	r.out, r.at = append(r.out, k.enc...), r.i
	return nil
}

func (r *rewriter) putValues(n int) error {
	r.flush()
	for range n {
		v, err := r.value()
		if err == nil {
			v, err = r.Value(v)
		}
		if err != nil {
			return err
		}
		r.out, r.at = appendValue(r.out, v), r.i
	}
	return nil
}

func (r *rewriter) block() error {
	if _, _, err := r.blockHead(); err != nil {
		return err
	}
	groups, err := r.array("list of groups")
	for ; err == nil && groups > 0; groups-- {
		err = r.blockGroup()
	}
	r.flush()
	return err
}

func (r *rewriter) blockGroup() error {
	items, err := r.array("group")
	if err != nil {
		return err
	}
	if _, err := r.uint(); err != nil {
		return err
	}
	kind, err := r.uint()
	if err != nil {
		return err
	}
	m, err := r.mask(MaxColumns)
	if err != nil {
		return err
	}
	for items -= 3; items > 0; items -= 1 + m.count() {
		if err := r.putKey(); err != nil {
			return err
		}
		if kind == uint64(OpDelete) || kind == uint64(OpReplace) {
			if err := r.skipSeen(); err != nil {
				return err
			}
			items--
		}
		if err := r.putValues(m.count()); err != nil {
			return err
		}
	}
	if items < 0 {
		return r.errorf("the last row of a group runs over its end")
	}
	return nil
}

// skipSeen passes over the birth that a delete saw.
func (r *rewriter) skipSeen() error {
	if major, err := r.peek(); err != nil {
		return err
	} else if major == majorArray {
		if _, err := r.array("stamp"); err != nil {
			return err
		}
		if _, err := r.origin(); err != nil {
			return err
		}
	}
	_, err := r.uint()
	return err
}

func (r *rewriter) delta() error {
	if n, err := r.array("delta"); err != nil || n != 2 {
		return r.errorf("no delta of this version")
	}
	origins, err := r.array("list of origins")
	for ; err == nil && origins > 0; origins-- {
		_, err = r.origin()
	}
	if err != nil {
		return err
	}
	groups, err := r.array("list of groups")
	for ; err == nil && groups > 0; groups-- {
		err = r.deltaGroup()
	}
	r.flush()
	return err
}

func (r *rewriter) deltaGroup() error {
	items, err := r.array("group")
	if err != nil {
		return err
	}
	if _, err := r.uint(); err != nil {
		return err
	}
	n, err := r.groupRows(items)
	if err != nil {
		return err
	}
	for range n {
		if err := r.putKey(); err != nil {
			return err
		}
	}
	values := 0
	for range n {
		v, err := r.deltaHead()
		if err != nil {
			return err
		}
		values += v
	}
	return r.putValues(values)
}

// deltaHead passes over a row without its key and values, and returns how many values it has; see rowcodec.go.
func (r *rewriter) deltaHead() (values int, err error) {
	flags, err := r.rowFlags()
	if err != nil {
		return 0, err
	}
	if err := r.skip(2 * headStamps(flags)); err != nil {
		return 0, err
	}
	if flags&flagCells != 0 {
		m, err := r.mask(MaxColumns)
		if err != nil {
			return 0, err
		}
		values = m.count()
	}
	if flags&flagExceptions != 0 {
		n, err := r.uint()
		if err != nil {
			return 0, err
		}
		if n > uint64(len(r.s)-r.i) {
			return 0, r.errorf("%d exceptions", n)
		}
		if err := r.skip(3 * int(n)); err != nil {
			return 0, err
		}
	}
	return values, nil
}

// skip passes over numbers.
func (r *rewriter) skip(n int) error {
	for range n {
		if _, err := r.int(); err != nil {
			return err
		}
	}
	return nil
}
