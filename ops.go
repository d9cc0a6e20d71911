package rowmesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/replica"
)

// checkOps refuses operations that could not be stored, or that other peers would refuse, before anything happens. It
// returns them with their columns in order. What SQL does with several statements on one row is here one operation: all
// of a transaction has one stamp, so that two values of one cell would have no order.
func checkOps(schemas []*crdt.Schema, ops []crdt.Op) ([]crdt.Op, error) {
	tables := make(map[string]*crdt.Schema, len(schemas))
	for _, s := range schemas {
		if s == nil || s.Numbering() == nil {
			return nil, fmt.Errorf("rowmesh: write: the schema %v was not made by NewSchema or ParseSchema", s)
		}
		tables[s.Table] = s
	}
	ops = slices.Clone(ops)
	seen := make(map[replica.RowKey]bool, len(ops))
	for i, op := range ops {
		k := replica.RowKey{Table: op.Table, Key: op.Key}
		sets, err := checkOp(tables[op.Table], op)
		if err == nil && seen[k] {
			err = errors.New("the row is written twice in one transaction: make one operation of the two")
		}
		if err != nil {
			return nil, fmt.Errorf("rowmesh: write %s: %w", k, err)
		}
		seen[k], ops[i].Sets = true, sets
	}
	return ops, nil
}

// checkOp checks one operation and returns its columns in order.
func checkOp(s *crdt.Schema, op crdt.Op) (sets []crdt.Set, err error) {
	if s == nil {
		return nil, errors.New("the table's schema is not among those given")
	}
	if parts := len(op.Key.Values()); parts != len(s.Key) {
		return nil, fmt.Errorf("its key has %d parts, the table's has %d", parts, len(s.Key))
	}
	switch op.Kind {
	case crdt.OpInsert, crdt.OpReplace:
	case crdt.OpUpdate:
		if len(op.Sets) == 0 {
			return nil, errors.New("an update that sets no column")
		}
	case crdt.OpDelete:
		if len(op.Sets) > 0 {
			return nil, errors.New("a delete that sets columns")
		}
	default:
		return nil, fmt.Errorf("there is no operation %s", op.Kind)
	}
	sets = slices.Clone(op.Sets)
	slices.SortFunc(sets, func(a, b crdt.Set) int { return strings.Compare(a.Column, b.Column) })
	for i, set := range sets {
		if _, ok := s.Index(set.Column); !ok || i > 0 && sets[i-1].Column == set.Column {
			return nil, fmt.Errorf("the column %q is not in the schema, or given twice", set.Column)
		}
		if n := len(set.Value.Bytes()); n > crdt.MaxValueBytes {
			return nil, fmt.Errorf("the column %q would have %d bytes, the limit is %d: keep such values elsewhere and their names here", set.Column, n, crdt.MaxValueBytes)
		}
	}
	return sets, nil
}

// agree refuses schemas that give a known table another key.
func (p *Peer) agree(ctx context.Context, schemas []*crdt.Schema) error {
	return p.store.Read(ctx, func(v replica.View) error {
		st, err := v.Load()
		if err != nil {
			return err
		}
		keys := map[string][]string{}
		for _, s := range slices.Concat(st.Schemas, schemas) {
			if key := keys[s.Table]; key != nil && !slices.Equal(key, s.Key) {
				return fmt.Errorf("rowmesh: write: the table %q has the key %q, and not %q: name the new table otherwise", s.Table, key, s.Key)
			}
			keys[s.Table] = s.Key
		}
		return nil
	})
}
