package main

import (
	"io"
	"net/http"
)

// record answers every request after saying how it was understood. A request whose body does not end well has no line.
func record(port string) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		headers := pairs(r.Header)
		headers = append(headers, [2]string{"Host", latin1(r.Host)})
		say(map[string]any{
			"method":   r.Method,
			"target":   latin1(r.RequestURI),
			"headers":  headers,
			"body":     latin1(string(body)),
			"trailers": pairs(r.Trailer),
		})
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "seen\n")
	}
	serve(port, &http.Server{Handler: http.HandlerFunc(handler), MaxHeaderBytes: 1 << 17})
}
