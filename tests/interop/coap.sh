#!/bin/bash
# Our CoAP endpoint against libcoap's client and server and OpenSSL's s_client, plain and DTLS-PSK, IPv4 and IPv6.
#   coap.sh CEP_TOOL
set -u
tool=$1
dir=$(mktemp -d)
pids=()
failed=0
cleanup() {
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$dir"
}
trap cleanup EXIT

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$dir/log" 2>&1; then
        echo "ok      $name"
    else
        echo "FAILED  $name"
        sed 's/^/        /' "$dir/log"
        failed=1
    fi
}

start_ours() { # HOST [IDENTITY KEY] -> $port
    : >"$dir/port"
    "$tool" server "$1" 0 "${@:2}" >"$dir/port" 2>>"$dir/server.log" &
    pids+=($!)
    for _ in $(seq 50); do
        [ -s "$dir/port" ] && break
        sleep 0.1
    done
    port=$(cat "$dir/port")
}

head -c 30000 /dev/urandom | base64 -w0 >"$dir/body"
python3 -c 'import sys; sys.stdout.write("".join(chr(97 + i % 26) for i in range(10000)))' >"$dir/big"

# --- libcoap's client against our server ---
lc() { timeout 20 coap-client-openssl -B 10 "$@"; }
lc_get() { lc "${@:3}" -o "$dir/out" -m get "$1" && cmp "$dir/out" "$2"; }
lc_post() { lc "${@:3}" -o "$dir/out" -f "$2" -m post "$1" && cmp "$dir/out" "$2"; }
lc_observe() { # at least five notifications, values going up
    lc "${@:2}" -s 2 -m get "$1" >"$dir/seen" && [ "$(grep -c '^[0-9]' "$dir/seen")" -ge 5 ] &&
        grep '^[0-9]' "$dir/seen" | sort -n -c
}
psk=(-u alice -k secretPSK0123456)

start_ours 127.0.0.1
check "libcoap client, plain: GET in pieces" lc_get "coap://127.0.0.1:$port/big" "$dir/big"
check "libcoap client, plain: GET in pieces of 64" lc_get "coap://127.0.0.1:$port/big" "$dir/big" -b 64
check "libcoap client, plain: POST in pieces" lc_post "coap://127.0.0.1:$port/echo" "$dir/body"
check "libcoap client, plain: POST in pieces of 32" lc_post "coap://127.0.0.1:$port/echo" "$dir/big" -b 32
check "libcoap client, plain: observe" lc_observe "coap://127.0.0.1:$port/state"
check "libcoap client, plain: NON" lc_get "coap://127.0.0.1:$port/big" "$dir/big" -N
start_ours ::1
check "libcoap client, plain, IPv6: GET in pieces" lc_get "coap://[::1]:$port/big" "$dir/big"
start_ours 127.0.0.1 alice secretPSK0123456
check "libcoap client, DTLS: GET in pieces" lc_get "coaps://127.0.0.1:$port/big" "$dir/big" "${psk[@]}"
check "libcoap client, DTLS: POST in pieces" lc_post "coaps://127.0.0.1:$port/echo" "$dir/body" "${psk[@]}"
check "libcoap client, DTLS: observe" lc_observe "coaps://127.0.0.1:$port/state" "${psk[@]}"
refused() { ! { lc -B 4 -o "$dir/no" -m get "$@" && [ -s "$dir/no" ]; }; }
check "libcoap client, DTLS: wrong key" refused -u alice -k wrong "coaps://127.0.0.1:$port/whoami"
check "libcoap client, DTLS: unknown identity" refused -u bob -k secretPSK0123456 "coaps://127.0.0.1:$port/whoami"

# --- OpenSSL's client: a handshake with each suite ---
hexkey=$(printf secretPSK0123456 | od -An -tx1 | tr -d ' \n')
s_client() { # SUITE
    { sleep 1; } | timeout 10 openssl s_client -dtls1_2 -connect "127.0.0.1:$port" -psk_identity alice -psk "$hexkey" \
        -cipher "$1:@SECLEVEL=0" | grep "Cipher is $1"
}
for suite in PSK-AES128-CCM8 PSK-AES128-CCM PSK-AES128-GCM-SHA256; do
    check "openssl s_client: $suite" s_client "$suite"
done
no_suite() { ! s_client PSK-AES256-CBC-SHA384; }
check "openssl s_client: another suite is refused" no_suite

# --- certificates ---
ca="$dir/ca"
q() { openssl "$@" 2>/dev/null; }
q req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$ca.key" -out "$ca.crt" -subj /CN=CA -days 2
issue() { # NAME SAN
    q req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/$1.key" -out "$dir/$1.csr" -subj "/CN=$1"
    q x509 -req -in "$dir/$1.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -days 2 -out "$dir/$1.crt" \
        -extfile <(echo "subjectAltName=$2")
}
issue server DNS:localhost,IP:127.0.0.1
issue client URI:C-ae7
cert_client=(-c "$dir/client.crt" -j "$dir/client.key" -C "$ca.crt")
s_cert() { # SUITE
    { sleep 1; } | timeout 10 openssl s_client -dtls1_2 -connect "127.0.0.1:$port" -cert "$dir/client.crt" -key "$dir/client.key" \
        -CAfile "$ca.crt" -verify_return_error -cipher "$1:@SECLEVEL=0" | grep "Cipher is $1"
}
start_ours 127.0.0.1 "@$ca.crt" "$dir/server"
check "libcoap client, certificate: GET in pieces" lc_get "coaps://127.0.0.1:$port/big" "$dir/big" "${cert_client[@]}"
check "libcoap client, certificate: POST in pieces" lc_post "coaps://127.0.0.1:$port/echo" "$dir/body" "${cert_client[@]}"
for suite in ECDHE-ECDSA-AES128-CCM8 ECDHE-ECDSA-AES128-CCM ECDHE-ECDSA-AES128-GCM-SHA256; do
    check "openssl s_client, certificate: $suite" s_cert "$suite"
done
no_cert_suite() { ! s_cert ECDHE-ECDSA-AES256-GCM-SHA384; }
check "openssl s_client, certificate: another suite is refused" no_cert_suite
if command -v gnutls-cli >/dev/null; then
    gnutls_cert() {
        { sleep 1; } | timeout 10 gnutls-cli --udp --port "$port" 127.0.0.1 --x509cafile "$ca.crt" --x509certfile "$dir/client.crt" \
            --x509keyfile "$dir/client.key" --priority "NORMAL:-KX-ALL:+ECDHE-ECDSA:-CIPHER-ALL:+$1:-VERS-ALL:+VERS-DTLS1.2" \
            | grep -i 'handshake was completed'
    }
    check "gnutls-cli, certificate: CCM_8" gnutls_cert AES-128-CCM-8
    check "gnutls-cli, certificate: GCM" gnutls_cert AES-128-GCM
fi
start_ours 127.0.0.1 alice secretPSK0123456

# --- GnuTLS, where it is installed ---
gnutls() {
    { sleep 1; } | timeout 10 gnutls-cli --udp --port "$port" 127.0.0.1 --pskusername alice --pskkey "$hexkey" \
        --priority 'NORMAL:-KX-ALL:+PSK:-CIPHER-ALL:+AES-128-CCM-8:+AES-128-CCM:-VERS-ALL:+VERS-DTLS1.2' | grep -i 'handshake was completed'
}
if command -v gnutls-cli >/dev/null; then
    check "gnutls-cli: PSK with CCM" gnutls
fi

# --- our client against libcoap's server ---
freeport() { python3 -c 'import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
start_libcoap() { # ARGS... -> $port; DTLS is one above it
    port=$(freeport)
    coap-server-openssl -A 127.0.0.1 -p "$port" -d 10 "$@" >"$dir/libcoap.log" 2>&1 &
    pids+=($!)
    sleep 0.5
}
our() { timeout 20 "$tool" "$@"; }
our_put_get() { # PORT [IDENTITY KEY]
    our client 127.0.0.1 "$1" PUT kept "${@:2}" <"$dir/body" && our client 127.0.0.1 "$1" GET kept "${@:2}" >"$dir/out" 2>/dev/null &&
        cmp "$dir/out" "$dir/body"
}
our_observe() { our observe 127.0.0.1 "$1" 3 time "${@:2}"; }
start_libcoap
check "libcoap server, plain: PUT and GET in pieces" our_put_get "$port"
check "libcoap server, plain: observe" our_observe "$port"
start_libcoap -k secretPSK0123456 -h ''
check "libcoap server, DTLS: PUT and GET in pieces" our_put_get $((port + 1)) alice secretPSK0123456
check "libcoap server, DTLS: observe" our_observe $((port + 1)) alice secretPSK0123456
start_libcoap -c "$dir/server.crt" -j "$dir/server.key" -C "$ca.crt"
check "libcoap server, certificate: PUT and GET in pieces" our_put_get $((port + 1)) "@$ca.crt" "$dir/client"
start_libcoap -k secretPSK0123456 -h ''
wrong() { ! our client 127.0.0.1 "$1" GET time alice wrongwrong; }
check "libcoap server, DTLS: wrong key" wrong $((port + 1))
exit $failed
