CREATE TABLE Artist(ArtistId INTEGER PRIMARY KEY, Name TEXT);
CREATE TABLE Genre(GenreId INTEGER PRIMARY KEY, Name TEXT);
CREATE TABLE MediaType(MediaTypeId INTEGER PRIMARY KEY, Name TEXT);
CREATE TABLE Playlist(PlaylistId INTEGER PRIMARY KEY, Name TEXT);
CREATE TABLE Album(AlbumId INTEGER PRIMARY KEY, Title TEXT NOT NULL, ArtistId INTEGER NOT NULL REFERENCES Artist(ArtistId));
CREATE INDEX AlbumArtist ON Album(ArtistId);
CREATE TABLE Employee(EmployeeId INTEGER PRIMARY KEY, LastName TEXT NOT NULL, FirstName TEXT NOT NULL, Title TEXT,
  ReportsTo INTEGER REFERENCES Employee(EmployeeId), BirthDate TEXT, HireDate TEXT, Address TEXT, City TEXT, State TEXT, Country TEXT,
  PostalCode TEXT, Phone TEXT, Fax TEXT, Email TEXT);
CREATE INDEX EmployeeReportsTo ON Employee(ReportsTo);
CREATE TABLE Customer(CustomerId INTEGER PRIMARY KEY, FirstName TEXT NOT NULL, LastName TEXT NOT NULL, Company TEXT, Address TEXT,
  City TEXT, State TEXT, Country TEXT, PostalCode TEXT, Phone TEXT, Fax TEXT, Email TEXT NOT NULL,
  SupportRepId INTEGER REFERENCES Employee(EmployeeId));
CREATE INDEX CustomerSupportRep ON Customer(SupportRepId);
CREATE TABLE Invoice(InvoiceId INTEGER PRIMARY KEY, CustomerId INTEGER NOT NULL REFERENCES Customer(CustomerId), InvoiceDate TEXT NOT NULL,
  BillingAddress TEXT, BillingCity TEXT, BillingState TEXT, BillingCountry TEXT, BillingPostalCode TEXT, Total REAL NOT NULL);
CREATE INDEX InvoiceCustomer ON Invoice(CustomerId);
CREATE TABLE Track(TrackId INTEGER PRIMARY KEY, Name TEXT NOT NULL, AlbumId INTEGER REFERENCES Album(AlbumId),
  MediaTypeId INTEGER NOT NULL REFERENCES MediaType(MediaTypeId), GenreId INTEGER REFERENCES Genre(GenreId), Composer TEXT,
  Milliseconds INTEGER NOT NULL, Bytes INTEGER, UnitPrice REAL NOT NULL);
CREATE INDEX TrackAlbum ON Track(AlbumId);
CREATE TABLE InvoiceLine(InvoiceLineId INTEGER PRIMARY KEY, InvoiceId INTEGER NOT NULL REFERENCES Invoice(InvoiceId),
  TrackId INTEGER NOT NULL REFERENCES Track(TrackId), UnitPrice REAL NOT NULL, Quantity INTEGER NOT NULL);
CREATE INDEX InvoiceLineInvoice ON InvoiceLine(InvoiceId);
CREATE INDEX InvoiceLineTrack ON InvoiceLine(TrackId);
CREATE TABLE PlaylistTrack(PlaylistId INTEGER NOT NULL REFERENCES Playlist(PlaylistId), TrackId INTEGER NOT NULL REFERENCES Track(TrackId),
  PRIMARY KEY(PlaylistId, TrackId));
CREATE INDEX PlaylistTrackTrack ON PlaylistTrack(TrackId);
