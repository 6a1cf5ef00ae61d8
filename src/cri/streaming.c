/* Exec, Attach and PortForward: they answer URLs; what the URLs lead to is stream/'s. */
#include "cri/parts.h"

#include "stream/stream.h"

/* The ID in full, of a container that runs now: a session that cannot be should fail here, where kubelet hears why. */
static int require_running(const struct rpc_context *ctx, struct call *c, const char *id, const char **full,
			   struct err *e)
{
	struct container_views *views = hold_containers(c);

	if (require(id, "container_id", e) < 0 ||
	    container_status(cri_of(ctx)->pods, &c->arena, owner_of(ctx), id, views, e) < 0)
		return -1;
	if (views->v[0].state != CONTAINER_RUNNING)
		return err_set(e, ERR_STATE, "container %s is %s; it must be running", id,
			       container_state_name[views->v[0].state]);
	*full = views->v[0].id;
	return 0;
}

static int check_streams(const struct session_wish *w, struct err *e)
{
	if (w->tty && w->err)
		return err_set(e, ERR_INVALID, "tty and stderr cannot both be true: a terminal has one output");
	if (!w->in && !w->out && !w->err)
		return err_set(e, ERR_INVALID, "one of stdin, stdout and stderr must be true");
	return 0;
}

CRI_METHOD(exec)
{
	CRI_IN(ExecRequest);
	CRI_OUT(ExecResponse);
	struct session_wish wish = { .owner = owner_of(ctx), .tty = in->tty, .in = in->stdin, .out = in->stdout,
				     .err = in->stderr };
	const char *url;

	if (in->n_cmd == 0 || !*in->cmd[0])
		return err_set(e, ERR_INVALID, "cmd is empty");
	wish.argv = strv_in(&c->arena, in->n_cmd, in->cmd);
	if (check_streams(&wish, e) < 0 || require_running(ctx, c, in->container_id, &wish.container, e) < 0 ||
	    stream_exec_url(cri_of(ctx)->streams, &c->arena, &wish, &url, e) < 0)
		return -1;
	out->url = text_out(url);
	return 0;
}

CRI_METHOD(attach)
{
	CRI_IN(AttachRequest);
	CRI_OUT(AttachResponse);
	struct session_wish wish = { .owner = owner_of(ctx), .tty = in->tty, .in = in->stdin, .out = in->stdout,
				     .err = in->stderr };
	const char *url;

	if (check_streams(&wish, e) < 0 || require_running(ctx, c, in->container_id, &wish.container, e) < 0 ||
	    stream_attach_url(cri_of(ctx)->streams, &c->arena, &wish, &url, e) < 0)
		return -1;
	out->url = text_out(url);
	return 0;
}

static int ports_in(struct arena *a, size_t n, const int32_t *ports, struct stream_ports *out, struct err *e)
{
	uint16_t *all = arena_newn0(a, uint16_t, n + 1);

	for (size_t i = 0; i < n; i++) {
		if (ports[i] < 1 || ports[i] > UINT16_MAX)
			return err_set(e, ERR_INVALID, "port[%zu]: %d is no port", i, ports[i]);
		all[i] = (uint16_t)ports[i];
	}
	out->ports = all;
	out->nports = n;
	return 0;
}

enum { PORTS_MAX = 100 }; /* a WebSocket's channel is one byte, and there are two for each */

CRI_METHOD(port_forward)
{
	CRI_IN(PortForwardRequest);
	CRI_OUT(PortForwardResponse);
	struct pod_views *views = hold_pods(c);
	struct stream_ports ports;
	const char *url;

	if (in->n_port > PORTS_MAX)
		return err_set(e, ERR_INVALID, "port: %zu ports; at most %d are taken", in->n_port, PORTS_MAX);
	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0 ||
	    ports_in(&c->arena, in->n_port, in->port, &ports, e) < 0 ||
	    pod_status(cri_of(ctx)->pods, &c->arena, owner_of(ctx), in->pod_sandbox_id, views, e) < 0)
		return -1;
	if (views->v[0].state != POD_READY)
		return err_set(e, ERR_STATE, "pod %s is not ready", in->pod_sandbox_id);
	ports.pod_id = views->v[0].id;
	if (stream_port_url(cri_of(ctx)->streams, &c->arena, owner_of(ctx), &ports, &url, e) < 0)
		return -1;
	out->url = text_out(url);
	return 0;
}
