module outrigger.dev/peers/go-http

go 1.24
