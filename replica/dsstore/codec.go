package dsstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	ds "github.com/ipfs/go-datastore"

	"github.com/rowmesh/rowmesh/crdt"
	"github.com/rowmesh/rowmesh/hlc"
	"github.com/rowmesh/rowmesh/replica"
)

// ErrCorrupt says that a stored record is damaged. The replica must be thrown away: remove the datastore and
// fetch a new copy from a peer, or put a backup in its place.
var ErrCorrupt = errors.New("dsstore: the store is damaged; remove it and fetch a new copy, or restore a backup")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum over the key and the record before it.
func seal(key ds.Key, record []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(record)), checksum(key, record)), record...)
}

// checksum covers the key too, so that a record in the place of another is found.
func checksum(key ds.Key, record []byte) uint32 {
	return crc32.Update(crc32.Checksum(key.Bytes(), castagnoli), castagnoli, record)
}

// unseal checks and removes the checksum.
func unseal(key ds.Key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != checksum(key, sealed[4:]) {
		return nil, fmt.Errorf("%w (record %q)", ErrCorrupt, key)
	}
	return sealed[4:], nil
}

func damaged(key ds.Key, why any) error {
	return fmt.Errorf("%w (record %q: %v)", ErrCorrupt, key, why)
}

// escape makes any bytes a part of a key: slashes separate parts, and parts of dots mean something to go-datastore.
// The order of escaped texts is that of the texts.
var escape = strings.NewReplacer(".", ".\x01", "/", ".\x02")

var unescape = strings.NewReplacer(".\x01", ".", ".\x02", "/")

func rowKey(k replica.RowKey) ds.Key {
	return ds.RawKey("/r/" + escape.Replace(k.Table) + "/" + escape.Replace(k.Key.Encoded()))
}

// rowPrefix is what the keys of a table's rows begin with, without the slash at its end.
func rowPrefix(table string) string { return "/r/" + escape.Replace(table) }

// parseRowKey reads the key of a row of a table.
func parseRowKey(table, key string) (replica.RowKey, error) {
	last := key[strings.LastIndexByte(key, '/')+1:]
	k, err := crdt.ParseKey(unescape.Replace(last))
	if err != nil {
		return replica.RowKey{}, fmt.Errorf("%w (key %q: %w)", ErrCorrupt, key, err)
	}
	return replica.RowKey{Table: table, Key: k}, nil
}

// bucketPrefix is what the index keys of one bucket begin with.
func bucketPrefix(origin, bucket uint64) string { return fmt.Sprintf("/i/%x/%08x", origin, bucket) }

func bucketOf(h hlc.Timestamp) uint64 { return uint64(h) >> bucketBits }

func refKey(origin uint64, h hlc.Timestamp, n int) ds.Key {
	return ds.RawKey(fmt.Sprintf("%s/%08x/%06x", bucketPrefix(origin, bucketOf(h)), uint64(h)&(1<<bucketBits-1), n))
}

// parseRefKey reads the origin's number and the time from what refKey wrote.
func parseRefKey(key string) (origin uint64, h hlc.Timestamp, err error) {
	var part [4]uint64
	parts := strings.Split(strings.TrimPrefix(key, "/i/"), "/")
	if len(parts) != len(part) {
		return 0, 0, fmt.Errorf("%w (key %q)", ErrCorrupt, key)
	}
	for i, bits := range [...]int{64, 64 - bucketBits, bucketBits, 32} {
		if part[i], err = strconv.ParseUint(parts[i], 16, bits); err != nil {
			return 0, 0, fmt.Errorf("%w (key %q: %w)", ErrCorrupt, key, err)
		}
	}
	return part[0], hlc.Timestamp(part[1]<<bucketBits | part[2]), nil
}

// refs are the rows named in one record of the index: table and key of each, with their lengths before them.
func appendRefs(dst []byte, refs []replica.RowKey) []byte {
	for _, k := range refs {
		dst = appendText(dst, k.Table)
		dst = appendText(dst, k.Key.Encoded())
	}
	return dst
}

func parseRefs(key ds.Key, b []byte) (refs []replica.RowKey, err error) {
	for len(b) > 0 {
		var table, enc string
		var ok bool
		if table, b, ok = cutText(b); ok {
			enc, b, ok = cutText(b)
		}
		if !ok {
			return nil, damaged(key, "it ends early")
		}
		k, err := crdt.ParseKey(enc)
		if err != nil {
			return nil, damaged(key, err)
		}
		refs = append(refs, replica.RowKey{Table: table, Key: k})
	}
	return refs, nil
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// cutText splits a text with its length before it off b.
func cutText(b []byte) (s string, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return "", nil, false
	}
	b = b[size:]
	return string(b[:n]), b[n:], true
}

// cutNumber splits a number off b.
func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, false
	}
	return n, b[size:], true
}

// change is one put, or with a nil value one delete, of a commit.
type change struct {
	key   ds.Key
	value []byte
}

// appendChanges is the body of a commit record.
func appendChanges(dst []byte, changes []change) []byte {
	for _, c := range changes {
		dst = appendText(dst, c.key.String())
		if c.value == nil {
			dst = append(dst, 0)
			continue
		}
		dst = append(dst, 1)
		dst = appendText(dst, string(c.value))
	}
	return dst
}

func parseChanges(key ds.Key, b []byte) (out []change, err error) {
	for len(b) > 0 {
		k, rest, ok := cutText(b)
		if !ok || len(rest) == 0 || !strings.HasPrefix(k, "/") || strings.HasSuffix(k, "/") {
			return nil, damaged(key, "it ends early")
		}
		c := change{key: ds.RawKey(k)}
		put := rest[0] == 1
		if b = rest[1:]; put {
			var v string
			if v, b, ok = cutText(b); !ok {
				return nil, damaged(key, "it ends early")
			}
			c.value = []byte(v)
		}
		out = append(out, c)
	}
	return out, nil
}
