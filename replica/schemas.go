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

// schemaConflictError reports that a schema cannot stand beside those that are known.
type schemaConflictError struct{ text string }

func (e *schemaConflictError) Error() string { return "replica: " + e.text }

func conflictf(format string, args ...any) error {
	return &schemaConflictError{fmt.Sprintf(format, args...)}
}

// check reports whether the schema agrees with what is known of its table, and its short name with all names.
func (s *schemaSet) check(schema *crdt.Schema) error {
	if cur := s.current[schema.Table]; cur != nil && !slices.Equal(cur.Key, schema.Key) {
		return conflictf("table %q has the key %q here and %q there: rename or untrack one of the two tables", cur.Table, cur.Key, schema.Key)
	}
	if known := s.byRef[schema.Ref()]; known != nil && !known.Equal(schema) {
		return conflictf("the definitions %s and %s have the same short name: add a column to one of the tables", known, schema)
	}
	return nil
}

// union returns the schema with the columns of all schemas of its table.
func (s *schemaSet) union(schema *crdt.Schema) (*crdt.Schema, error) {
	cur := s.current[schema.Table]
	if cur == nil {
		return schema, nil
	}
	union, err := cur.With(schema.Columns)
	if err != nil {
		return nil, conflictf("the columns that peers have given to one table do not fit together: %v; untrack the table and track it under another name", err)
	}
	return union, s.check(union)
}

// add makes a schema known, or nothing where it conflicts, and returns those that were new: itself and the union of its
// table.
func (s *schemaSet) add(schema *crdt.Schema) (added []*crdt.Schema, err error) {
	if err := s.check(schema); err != nil {
		return nil, err
	}
	union, err := s.union(schema)
	if err != nil {
		return nil, err
	}
	for _, n := range []*crdt.Schema{schema, union} {
		ref := n.Ref()
		if s.byRef[ref] == nil {
			s.byRef[ref], s.refs[n] = n, ref
			added = append(added, n)
		}
		s.current[schema.Table] = s.byRef[ref]
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

// add takes in a schema that does not conflict with the known ones. A short name that already stands for another schema
// must be noticed here: what comes under it later would be read as rows of the wrong table.
func (t *told) add(enc []byte, known *schemaSet) error {
	s, err := crdt.ParseSchema(enc)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if err := known.check(s); err != nil {
		return err
	}
	ref := s.Ref()
	switch before := t.schemas[ref]; {
	case before != nil && !before.Equal(s):
		return conflictf("the definitions %s and %s have the same short name: add a column to one of the tables", before, s)
	case before == nil:
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
