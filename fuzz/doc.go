// Package fuzz holds the fuzz targets for everything that reads bytes from outside. Their saved inputs run with every
// go test; make fuzz searches for new ones.
package fuzz
