package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

var connections, requests, cancelled int64

// echo is a server for clients of every kind, by one version of HTTP; a line on stdin asks for its counts.
func echo(port string, second bool) {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		// An answer that comes before the request's end leaves nothing to find wrong in its rest.
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello\n")
	})
	mux.HandleFunc("/echo", understood)
	mux.HandleFunc("/chunked", chunked)
	mux.HandleFunc("/big", big)
	mux.HandleFunc("/slow", slow)
	mux.HandleFunc("/mirror", mirror)
	mux.HandleFunc("/status", status)
	mux.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not that", http.StatusForbidden)
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "after the hints")
	})
	go counts()
	spoken := new(http.Protocols)
	spoken.SetHTTP1(!second)
	spoken.SetUnencryptedHTTP2(second)
	server := &http.Server{
		Protocols: spoken,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			atomic.AddInt64(&requests, 1)
			mux.ServeHTTP(w, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				atomic.AddInt64(&connections, 1)
			}
		},
	}
	serve(port, server)
}

func counts() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		say(map[string]int64{
			"connections": atomic.LoadInt64(&connections),
			"requests":    atomic.LoadInt64(&requests),
			"cancelled":   atomic.LoadInt64(&cancelled),
		})
	}
}

// understood answers with the request as net/http understood it.
func understood(w http.ResponseWriter, r *http.Request) {
	hash, small := sha256.New(), make([]byte, 0, 1<<16)
	var length int64
	buffer := make([]byte, 1<<16)
	for {
		n, err := r.Body.Read(buffer)
		hash.Write(buffer[:n])
		length += int64(n)
		if len(small)+n <= cap(small) {
			small = append(small, buffer[:n]...)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	answer, err := json.Marshal(map[string]any{
		"method": r.Method, "path": r.URL.Path, "query": r.URL.RawQuery, "proto": r.Proto, "host": r.Host,
		"headers": r.Header, "trailers": r.Trailer, "coding": r.TransferEncoding, "declared": r.ContentLength,
		"length": length, "sha256": hex.EncodeToString(hash.Sum(nil)), "body": latin1(string(small)),
	})
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer)
}

// number is a number of the query, or 0.
func number(r *http.Request, name string) int {
	n, _ := strconv.Atoi(r.URL.Query().Get(name))
	return n
}

// chunked flushes each part, then tells the digest in a trailer.
func chunked(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Sha256")
	hash := sha256.New()
	for i, parts := 0, number(r, "parts"); i < parts; i++ {
		part := fmt.Sprintf("part %d of %d\n", i, parts)
		hash.Write([]byte(part))
		_, _ = io.WriteString(w, part)
		w.(http.Flusher).Flush()
		time.Sleep(time.Duration(number(r, "pause")) * time.Millisecond)
	}
	w.Header().Set("X-Sha256", hex.EncodeToString(hash.Sum(nil)))
}

// pattern is the bytes of every large body, whoever sends it.
func pattern(length int) []byte {
	bytes := make([]byte, length)
	for i := range bytes {
		bytes[i] = byte(i*31 + i/251)
	}
	return bytes
}

func big(w http.ResponseWriter, r *http.Request) {
	length := number(r, "bytes")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	if r.Method != http.MethodHead {
		_, _ = w.Write(pattern(length))
	}
}

// slow answers after a while, and counts the callers that did not wait.
func slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
		atomic.AddInt64(&cancelled, 1)
	case <-time.After(time.Duration(number(r, "ms")) * time.Millisecond):
		_, _ = io.WriteString(w, "at last")
	}
}

// mirror sends back every part as it comes, the trailers last.
func mirror(w http.ResponseWriter, r *http.Request) {
	// Of no use, and so an error, in HTTP/2: there it is always so.
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	buffer := make([]byte, 1<<16)
	for {
		n, err := r.Body.Read(buffer)
		_, _ = w.Write(buffer[:n])
		w.(http.Flusher).Flush()
		if err == io.EOF {
			break
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	for name, values := range r.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
}

func status(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Kept", "a value")
	w.WriteHeader(number(r, "code"))
}
