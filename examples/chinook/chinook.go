// Package chinook is a real database to try things on: the rows of the Chinook sample database, a music
// shop of 11 tables and 15,000 rows with integer and composite keys and foreign keys. The rows are
// copyright (c) 2008-2017 Luis Rocha; data/LICENSE goes wherever they go.
package chinook

import (
	"database/sql"
	"embed"
	"encoding/csv"
	"fmt"
	"io"
	"strings"
)

//go:embed schema.sql data
var files embed.FS

// Tables lists the tables, each after those that it refers to.
var Tables = []string{
	"Artist", "Genre", "MediaType", "Playlist", "Album", "Employee", "Customer", "Invoice", "Track", "InvoiceLine", "PlaylistTrack",
}

// Schema returns the CREATE statements.
func Schema() string {
	b, err := files.ReadFile("schema.sql")
	if err != nil {
		panic(err) // it is part of the program
	}
	return string(b)
}

// Load makes the tables and fills them, in one transaction. It returns the number of rows.
func Load(db *sql.DB) (rows int, err error) {
	tx, err := db.Begin()
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }() // nothing after the commit
	if _, err := tx.Exec(Schema()); err != nil {
		return 0, fmt.Errorf("chinook: make the tables: %w", err)
	}
	for _, t := range Tables {
		n, err := load(tx, t)
		if err != nil {
			return 0, fmt.Errorf("chinook: fill %s: %w", t, err)
		}
		rows += n
	}
	return rows, tx.Commit()
}

func load(tx *sql.Tx, table string) (n int, err error) {
	f, err := files.Open("data/" + table + ".csv")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	head, err := r.Read()
	if err != nil {
		return 0, err
	}
	stmt, err := tx.Prepare(fmt.Sprintf("INSERT INTO %s(%s) VALUES(%s)", table, strings.Join(head, ", "), strings.TrimSuffix(strings.Repeat("?,", len(head)), ",")))
	if err != nil {
		return 0, err
	}
	defer stmt.Close()
	for ; ; n++ {
		rec, err := r.Read()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		args := make([]any, len(rec))
		for i, v := range rec {
			if v != `\N` {
				args[i] = v // column affinity makes numbers of the text
			}
		}
		if _, err := stmt.Exec(args...); err != nil {
			return n, err
		}
	}
}
