/* The daemon's loop with a service whose answers the test controls: what grpc-go sees of knarrd,
 * without pods.  usage: grpc_echo SOCKET USER_SOCKET [READY_AFTER_MS] */
#include "daemon/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "echo.pb-c.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_llong cancelled;

static int wait_and_fail(struct call *c, const Knarr__Test__EchoRequest *r, struct err *e)
{
	if (r->sleep_ms && call_sleep(c, r->sleep_ms * NS_PER_MS, e) < 0) {
		if (e->kind == ERR_CANCELLED)
			atomic_fetch_add(&cancelled, 1);
		return -1;
	}
	if (r->fail_code)
		return err_set(e, err_kind_of_grpc(r->fail_code), "%s", r->fail_text);
	return 0;
}

static void fill(struct rpc_context *ctx, struct call *c, const Knarr__Test__EchoRequest *r,
		 struct arena *a, Knarr__Test__EchoReply *out)
{
	out->text = r->bad_text ? "bad \xff\xfe text" : r->text;
	out->payload.len = r->payload.len + (size_t)r->answer_bytes;
	out->payload.data = arena_alloc(a, out->payload.len);
	memset(out->payload.data, 'x', out->payload.len);
	if (r->payload.len)
		memcpy(out->payload.data, r->payload.data, r->payload.len);
	out->has_deadline = c->deadline_ns != 0;
	out->by_user = ctx->owner == RPC_OWNER_USER;
	out->cancelled = atomic_load(&cancelled);
}

static int run_echo(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *in, ProtobufCMessage *out,
		    struct err *e)
{
	const Knarr__Test__EchoRequest *r = (const Knarr__Test__EchoRequest *)in;

	if (wait_and_fail(c, r, e) < 0)
		return -1;
	fill(ctx, c, r, &c->arena, (Knarr__Test__EchoReply *)out);
	return 0;
}

static int run_count(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *in,
		     UNUSED ProtobufCMessage *out, struct err *e)
{
	const Knarr__Test__EchoRequest *r = (const Knarr__Test__EchoRequest *)in;

	for (int64_t i = 0; !r->times || i < r->times; i++) {
		Knarr__Test__EchoReply m = KNARR__TEST__ECHO_REPLY__INIT;
		auto_arena a = { 0 };

		if (r->sleep_ms && call_sleep(c, r->sleep_ms * NS_PER_MS, e) < 0)
			break;
		fill(ctx, c, r, &a, &m);
		m.number = i;
		if (rpc_send(ctx, c, &m.base, e) < 0)
			break;
	}
	if (call_check(c, e) < 0) {
		atomic_fetch_add(&cancelled, 1);
		return -1;
	}
	return r->fail_code ? err_set(e, err_kind_of_grpc(r->fail_code), "%s", r->fail_text) : 0;
}

#define METHOD(name, fn, flags) \
	{ "/knarr.test.Echo/" name, &knarr__test__echo_request__descriptor, \
	  &knarr__test__echo_reply__descriptor, fn, flags }
static const struct rpc_method methods[] = {
	METHOD("Echo", run_echo, 0),
	METHOD("Lane", run_echo, RPC_RESERVED_LANE),
	METHOD("Anytime", run_echo, RPC_RESERVED_LANE | RPC_ANYTIME),
	METHOD("Count", run_count, RPC_STREAMING),
	{ 0 },
};

static void *ready_later(void *arg)
{
	struct server *s = arg;

	(void)usleep(1000 * (useconds_t)atoi(getenv("ECHO_READY_MS")));
	server_ready(s, NULL);
	return NULL;
}

int main(int argc, char **argv)
{
	const struct rpc_method *const tables[] = { methods, NULL };
	const struct server_socket sockets[] = { { argc > 2 ? argv[1] : "", RPC_OWNER_KUBELET },
						 { argc > 2 ? argv[2] : "", RPC_OWNER_USER } };
	struct server_settings settings = { .sockets = sockets, .nsockets = 2, .methods = tables,
					    .ready_wait_ns = 2 * NS_PER_S, .stop_wait_ns = 3 * NS_PER_S,
					    .workers = 300 };
	struct server *s;
	pthread_t later;
	struct err e;
	int rc;

	if (argc != 3) {
		(void)fprintf(stderr, "usage: grpc_echo SOCKET USER_SOCKET\n");
		return 2;
	}
	log_configure(LOG_INFO, LOG_TEXT, 2);
	arena_keep_chunks(16);
	if (server_new(&settings, &s, &e) < 0) {
		log_error("%s", e.msg);
		return 1;
	}
	if (getenv("ECHO_READY_MS")) {
		if (thread_start(&later, "later", ready_later, s, &e) < 0)
			return 1;
	} else {
		server_ready(s, NULL);
	}
	rc = server_run(s, &e);
	if (getenv("ECHO_READY_MS"))
		(void)pthread_join(later, NULL);
	server_free(s);
	return rc < 0;
}
