package replica

import (
	"fmt"
	"slices"

	"github.com/rowmesh/rowmesh/crdt"
)

// schemaSet is every schema learnt, and for each table the current one: the union of the columns of all
// its schemas, with which rows are sent on.
type schemaSet struct {
	byRef   map[crdt.SchemaRef]*crdt.Schema
	refs    map[*crdt.Schema]crdt.SchemaRef
	current map[string]*crdt.Schema
}

func newSchemaSet() *schemaSet {
	return &schemaSet{map[crdt.SchemaRef]*crdt.Schema{}, map[*crdt.Schema]crdt.SchemaRef{}, map[string]*crdt.Schema{}}
}

// Schema looks up a schema by its short name; nil: not known.
func (s *schemaSet) Schema(ref crdt.SchemaRef) *crdt.Schema { return s.byRef[ref] }

func (s *schemaSet) ref(schema *crdt.Schema) crdt.SchemaRef { return s.refs[schema] }

// schemaConflictError reports that a table is known with another key.
type schemaConflictError struct{ here, there *crdt.Schema }

func (e *schemaConflictError) Error() string {
	return fmt.Sprintf("replica: table %q has the key %q here and %q there: rename or untrack one of the two tables",
		e.here.Table, e.here.Key, e.there.Key)
}

// check reports whether the schema agrees with what is known of its table.
func (s *schemaSet) check(schema *crdt.Schema) error {
	if cur := s.current[schema.Table]; cur != nil && !slices.Equal(cur.Key, schema.Key) {
		return &schemaConflictError{cur, schema}
	}
	if known := s.byRef[schema.Ref()]; known != nil && !known.Equal(schema) {
		return fmt.Errorf("replica: the definitions %s and %s have the same short name: add a column to one of the tables", known, schema)
	}
	return nil
}

// add makes a checked schema known and returns those that were new: itself and the union of its table.
func (s *schemaSet) add(schema *crdt.Schema) ([]*crdt.Schema, error) {
	if err := s.check(schema); err != nil {
		return nil, err
	}
	var added []*crdt.Schema
	enter := func(n *crdt.Schema) *crdt.Schema {
		ref := n.Ref()
		if known := s.byRef[ref]; known != nil {
			return known
		}
		s.byRef[ref], s.refs[n] = n, ref
		added = append(added, n)
		return n
	}
	schema = enter(schema)
	cur := s.current[schema.Table]
	if cur == nil {
		s.current[schema.Table] = schema
		return added, nil
	}
	union, err := cur.With(schema.Columns)
	if err != nil {
		return nil, err
	}
	if union != cur {
		s.current[schema.Table] = enter(union)
	}
	return added, nil
}

func (s *schemaSet) load(schema *crdt.Schema) error {
	_, err := s.add(schema)
	return err
}

// learn makes schemas known, to be stored with the next batch.
func (r *Replica) learn(schemas []*crdt.Schema) error {
	for _, schema := range schemas {
		added, err := r.schemas.add(schema)
		if err != nil {
			return err
		}
		r.batch.Schemas = append(r.batch.Schemas, added...)
	}
	return nil
}

// told is the schemas that a sender has told, used or not.
type told struct {
	schemas map[crdt.SchemaRef]*crdt.Schema
	bytes   int
}

func (t *told) add(enc []byte) error {
	s, err := crdt.ParseSchema(enc)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	ref := s.Ref()
	if t.schemas[ref] == nil {
		if t.bytes += len(enc); len(t.schemas) == maxTold || t.bytes > maxToldBytes {
			return fmt.Errorf("%w: more than %d schemas, or %d bytes of them", ErrFrame, maxTold, maxToldBytes)
		}
	}
	if t.schemas == nil {
		t.schemas = map[crdt.SchemaRef]*crdt.Schema{}
	}
	t.schemas[ref] = s
	return nil
}

// offered resolves the schemas that a sender has told beside those already known.
type offered struct {
	known *schemaSet
	told  map[crdt.SchemaRef]*crdt.Schema
}

// Schema looks up a schema by its short name; nil: not known.
func (o offered) Schema(ref crdt.SchemaRef) *crdt.Schema {
	if s := o.known.Schema(ref); s != nil {
		return s
	}
	return o.told[ref]
}

// used returns the schemas of rows that are not known yet, in the order of their first use.
func (o offered) used(rows []crdt.RowDelta) (unknown []*crdt.Schema) {
	for i, d := range rows {
		if i > 0 && rows[i-1].Schema == d.Schema {
			continue
		}
		if _, ok := o.known.refs[d.Schema]; !ok && !slices.Contains(unknown, d.Schema) {
			unknown = append(unknown, d.Schema)
		}
	}
	return unknown
}
