/* The HTTP request that a session begins with: which ticket, which protocol. */
#include "stream/loop.h"

#include "base/clock.h"

#include <stdio.h>

static const struct ws_protocol {
	const char *name;
	unsigned version;
	bool base64, exec, ports;
} ws_protocols[] = {
	/* in the order of our liking; the client's order does not count */
	{ "v5.channel.k8s.io", 5, false, true, false },
	{ "v4.channel.k8s.io", 4, false, true, true },
	{ "v4.base64.channel.k8s.io", 4, true, true, true },
	{ "channel.k8s.io", 1, false, true, false },
	{ "base64.channel.k8s.io", 1, true, true, false },
};
static const char *const spdy_protocols[] = { "v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io",
					      "v2.channel.k8s.io", "channel.k8s.io" };
#define PORT_PROTOCOL "portforward.k8s.io"
#define TUNNEL_PROTOCOL "SPDY/3.1+" PORT_PROTOCOL

static void PRINTF_LIKE(4, 5) refuse(struct conn *c, const char *status, const char *headers, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	conn_say(c, "HTTP/1.1 %s\r\nConnection: close\r\n%sContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s\n",
		 status, headers, strlen(text) + 1, text);
	conn_finish(c);
}

/* "/exec/TOKEN" */
static bool take_ticket(struct conn *c, struct str path)
{
	struct str rest = { path.p + 1, path.len - 1 }, kind = str_cut(&rest, '/');

	for (unsigned i = 0; rest.p && i < TICKET_KIND_COUNT; i++)
		if (str_eqz(kind, ticket_kind_name[i]))
			c->ticket = ticket_take(&c->server->tickets, (enum ticket_kind)i, rest);
	return c->ticket != NULL;
}

static void choose_spdy(struct conn *c, const struct http_head *h)
{
	static const char header[] = "X-Stream-Protocol-Version";
	const char *const *all = spdy_protocols, *const port[] = { PORT_PROTOCOL };
	size_t n = ARRAY_SIZE(spdy_protocols);
	const char *chosen = NULL;

	if (c->ticket->kind == TICKET_PORTS) {
		all = port;
		n = 1;
	}
	c->version = 1; /* of a client that names none */
	for (size_t i = 0; i < n && !chosen; i++) {
		if (http_head_has(h, header, all[i])) {
			chosen = all[i];
			c->version = (unsigned)(ARRAY_SIZE(spdy_protocols) - i);
		}
	}
	if (!chosen && http_head_get(h, header).p) {
		refuse(c, "403 Forbidden", c->ticket->kind == TICKET_PORTS ?
		       "X-Accepted-Stream-Protocol-Versions: " PORT_PROTOCOL "\r\n" :
		       "X-Accepted-Stream-Protocol-Versions: v4.channel.k8s.io, v3.channel.k8s.io, v2.channel.k8s.io, "
		       "channel.k8s.io\r\n", "unable to upgrade: none of the client's protocols is known here");
		return;
	}
	conn_say(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n%s%s%s\r\n",
		 chosen ? "X-Stream-Protocol-Version: " : "", chosen ? chosen : "", chosen ? "\r\n" : "");
	c->mode = CONN_SPDY;
}

static bool choose_ws_protocol(struct conn *c, const struct http_head *h, const char **name)
{
	static const char header[] = "Sec-WebSocket-Protocol";
	bool ports = c->ticket->kind == TICKET_PORTS;

	*name = NULL;
	c->mode = CONN_WEBSOCKET;
	c->version = 1;
	if (ports && http_head_has(h, header, TUNNEL_PROTOCOL)) {
		*name = TUNNEL_PROTOCOL;
		c->mode = CONN_TUNNEL;
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ws_protocols); i++) {
		const struct ws_protocol *p = &ws_protocols[i];

		if ((ports ? p->ports : p->exec) && http_head_has(h, header, p->name)) {
			*name = p->name;
			c->version = p->version;
			c->base64 = p->base64;
			return true;
		}
	}
	if (http_head_get(h, header).p)
		c->mode = CONN_HEAD;
	return c->mode != CONN_HEAD;
}

static void choose_websocket(struct conn *c, const struct http_head *h)
{
	struct str key = http_head_get(h, "Sec-WebSocket-Key");
	char accept[WEBSOCKET_ACCEPT_LEN + 1];
	const char *protocol;

	if (!http_head_has(h, "Sec-WebSocket-Version", "13") || key.len != 24) {
		refuse(c, "400 Bad Request", "Sec-WebSocket-Version: 13\r\n", "this is no handshake of RFC 6455");
		return;
	}
	if (!choose_ws_protocol(c, h, &protocol)) {
		refuse(c, "403 Forbidden", "", "unable to upgrade: none of the client's protocols is known here");
		return;
	}
	websocket_accept(key, accept);
	conn_say(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		    "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n", accept, protocol ? "Sec-WebSocket-Protocol: " : "",
		 protocol ? protocol : "", protocol ? "\r\n" : "");
}

void conn_upgrade(struct conn *c, const struct http_head *h)
{
	bool upgrade = http_head_has(h, "Connection", "Upgrade");
	bool websocket = upgrade && http_head_has(h, "Upgrade", "websocket");

	if (!str_eqz(h->method, "POST") && !str_eqz(h->method, "GET")) {
		refuse(c, "405 Method Not Allowed", "Allow: GET, POST\r\n", "GET or POST is wanted");
		return;
	}
	if (!take_ticket(c, h->path)) {
		refuse(c, "404 Not Found", "", "no session waits at this URL: it was used, is too old, or never was");
		return;
	}
	if (websocket && str_eqz(h->method, "GET"))
		choose_websocket(c, h);
	else if (upgrade && http_head_has(h, "Upgrade", "SPDY/3.1"))
		choose_spdy(c, h);
	else
		refuse(c, "400 Bad Request", "", "unable to upgrade: WebSocket or SPDY/3.1 is wanted");
	c->active_ns = clock_mono_ns();
	c->user = c->finished || c->dead ? NULL : c->ticket->kind == TICKET_PORTS ? &forward_user : &command_user;
}
