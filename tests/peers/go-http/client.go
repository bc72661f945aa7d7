package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// seen is what the echo server answers.
type seen struct {
	Method, Query, Body, Sha256 string
	Length                      int64
	Headers, Trailers           map[string][]string
	Coding                      []string
}

type caller struct {
	base string
	http *http.Client
}

// client reads one case a line from stdin: a name and a number. It compares every answer itself.
func client(port string) {
	transport := &http.Transport{MaxIdleConnsPerHost: 200, ExpectContinueTimeout: 5 * time.Second}
	on := &caller{"http://127.0.0.1:" + port, &http.Client{Transport: transport, Timeout: 20 * time.Second}}
	cases := map[string]func(int) (any, error){
		"keepalive": on.keepalive, "parallel": on.parallel, "cancel": on.cancel,
		"trailers": on.trailers, "big": on.big, "expect": on.expect, "refused": on.refused,
	}
	say(map[string]any{"ready": true, "peer": "go"})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		n, _ := strconv.Atoi(words[1])
		value, err := cases[words[0]](n)
		if err != nil {
			say(map[string]any{"case": words[0], "ok": false, "message": err.Error()})
			continue
		}
		say(map[string]any{"case": words[0], "ok": true, "value": value})
	}
}

// echoed makes one call to /echo.
func (on *caller) echoed(request *http.Request) (*seen, *http.Response, error) {
	response, err := on.http.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, response, fmt.Errorf("status %s: %s", response.Status, body)
	}
	answer := new(seen)
	return answer, response, json.Unmarshal(body, answer)
}

func (on *caller) request(method, path string, body io.Reader) *http.Request {
	request, err := http.NewRequest(method, on.base+path, body)
	if err != nil {
		panic(err)
	}
	return request
}

// keepalive makes calls one after the other; the number of connections they took.
func (on *caller) keepalive(calls int) (any, error) {
	fresh := 0
	for i := 0; i < calls; i++ {
		trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
			if !got.Reused {
				fresh++
			}
		}}
		request := on.request("GET", fmt.Sprintf("/echo?i=%d", i), nil)
		answer, _, err := on.echoed(request.WithContext(httptrace.WithClientTrace(context.Background(), trace)))
		if err != nil {
			return nil, err
		}
		if answer.Query != fmt.Sprintf("i=%d", i) {
			return nil, fmt.Errorf("call %d got the answer of %s", i, answer.Query)
		}
	}
	return fresh, nil
}

// parallel makes calls at once; the number of those that got their own answer.
func (on *caller) parallel(calls int) (any, error) {
	var wait sync.WaitGroup
	var own, failed int64
	var last atomic.Value
	for i := 0; i < calls; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			sent := fmt.Sprintf("%d-%s", i, strings.Repeat("g", i*97))
			answer, _, err := on.echoed(on.request("POST", "/echo", strings.NewReader(sent)))
			if err != nil {
				atomic.AddInt64(&failed, 1)
				last.Store(err.Error())
			} else if answer.Body == sent {
				atomic.AddInt64(&own, 1)
			}
		}(i)
	}
	wait.Wait()
	if failed > 0 {
		return nil, fmt.Errorf("%d failed: %v", failed, last.Load())
	}
	return own, nil
}

// cancel leaves calls that are being answered; the number of those that ended by that, and by nothing else.
func (on *caller) cancel(calls int) (any, error) {
	var wait sync.WaitGroup
	var left int64
	for i := 0; i < calls; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			within, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			_, err := on.http.Do(on.request("GET", "/slow?ms=800", nil).WithContext(within))
			if errors.Is(err, context.DeadlineExceeded) {
				atomic.AddInt64(&left, 1)
			}
		}()
	}
	wait.Wait()
	return left, nil
}

// trailers sends some and reads some.
func (on *caller) trailers(number int) (any, error) {
	request := on.request("POST", "/echo", io.NopCloser(strings.NewReader("with trailers")))
	request.ContentLength = -1
	request.Trailer = http.Header{"X-Number": {strconv.Itoa(number)}, "X-Empty": {""}}
	answer, _, err := on.echoed(request)
	if err != nil {
		return nil, err
	}
	response, err := on.http.Get(on.base + "/chunked?parts=" + strconv.Itoa(number))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(body)
	if told := response.Trailer.Get("X-Sha256"); told != hex.EncodeToString(digest[:]) {
		return nil, fmt.Errorf("the trailer of the answer is %q", told)
	}
	return map[string]any{"sent": answer.Trailers, "coding": answer.Coding, "body": answer.Body, "read": len(body)}, nil
}

// big uploads by length and by chunks, and downloads.
func (on *caller) big(length int) (any, error) {
	sent := pattern(length)
	digest := sha256.Sum256(sent)
	for _, declared := range []int64{int64(length), -1} {
		request := on.request("POST", "/echo", io.NopCloser(bytes.NewReader(sent)))
		request.ContentLength = declared
		answer, _, err := on.echoed(request)
		if err != nil {
			return nil, err
		}
		if answer.Sha256 != hex.EncodeToString(digest[:]) {
			return nil, fmt.Errorf("%d bytes arrived, not those sent", answer.Length)
		}
	}
	response, err := on.http.Get(on.base + "/big?bytes=" + strconv.Itoa(length))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, sent) {
		return nil, fmt.Errorf("other bytes came back (%d)", len(got))
	}
	return length, nil
}

// expect waits for 100 before it sends the body; whether that came.
func (on *caller) expect(length int) (any, error) {
	asked := false
	trace := &httptrace.ClientTrace{Got100Continue: func() { asked = true }}
	request := on.request("POST", "/echo", bytes.NewReader(pattern(length)))
	request.Header.Set("Expect", "100-continue")
	answer, _, err := on.echoed(request.WithContext(httptrace.WithClientTrace(context.Background(), trace)))
	if err != nil {
		return nil, err
	}
	return map[string]any{"asked": asked, "length": answer.Length}, nil
}

// refused expects 100 and gets a final answer.
func (on *caller) refused(length int) (any, error) {
	asked := false
	trace := &httptrace.ClientTrace{Got100Continue: func() { asked = true }}
	request := on.request("POST", "/refuse", bytes.NewReader(pattern(length)))
	request.Header.Set("Expect", "100-continue")
	response, err := on.http.Do(request.WithContext(httptrace.WithClientTrace(context.Background(), trace)))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return map[string]any{"asked": asked, "status": response.StatusCode, "body": string(body), "close": response.Close}, err
}
