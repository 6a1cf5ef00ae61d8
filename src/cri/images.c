#include "cri/parts.h"

static int image_name(const CRI_T(ImageSpec) *spec, const char **out, struct err *e)
{
	if (!spec)
		return err_set(e, ERR_INVALID, "image is missing");
	*out = spec->image;
	return require(spec->image, "image.image", e);
}

/* The configuration's User is "uid", "uid:gid", "name" or "name:group"; CRI wants one of number and name. */
static void user_out(struct arena *a, const char *user, CRI_T(Image) *out)
{
	struct str rest = str_of(user ? user : ""), first = str_cut(&rest, ':');
	int64_t uid;
	struct err ignored;

	if (first.len == 0)
		return;
	if (str_to_i64(first, &uid, &ignored) == 0) {
		out->uid = CRI_NEW(a, int64_value);
		out->uid->value = uid;
	} else {
		out->username = str_dup(a, first);
	}
}

static CRI_T(Image) *image_out(struct arena *a, const struct image *im)
{
	CRI_T(Image) *out = CRI_NEW(a, image);

	out->id = text_out(im->id);
	out->n_repo_tags = strv_len(im->tags);
	out->repo_tags = im->tags;
	out->n_repo_digests = strv_len(im->digests);
	out->repo_digests = im->digests;
	out->size = im->size_bytes;
	user_out(a, im->user, out);
	out->pinned = im->pinned;
	return out;
}

static int images_listed(struct rpc_context *ctx, struct call *c, const CRI_T(ImageFilter) *filter, size_t *n,
			 CRI_T(Image) ***out, struct err *e)
{
	const char *name = filter && filter->image ? text_in(filter->image->image) : NULL;
	struct image *images, one;

	if (name) {
		images = &one;
		*n = 1;
		if (image_find(cri_of(ctx)->images, &c->arena, name, &one, e) < 0) {
			if (e->kind != ERR_NOT_FOUND)
				return -1;
			*n = 0;
		}
	} else if (image_list(cri_of(ctx)->images, &c->arena, &images, n, e) < 0) {
		return -1;
	}
	*out = CRI_NEWV(&c->arena, *n);
	for (size_t i = 0; i < *n; i++)
		(*out)[i] = image_out(&c->arena, &images[i]);
	return 0;
}

CRI_METHOD(list_images)
{
	CRI_IN(ListImagesRequest);
	CRI_OUT(ListImagesResponse);

	return images_listed(ctx, c, in->filter, &out->n_images, &out->images, e);
}

CRI_METHOD(stream_images)
{
	CRI_IN(StreamImagesRequest);
	CRI_T(Image) **images;
	size_t n;

	(void)response;
	if (images_listed(ctx, c, in->filter, &n, &images, e) < 0)
		return -1;
	return send_in_pieces(ctx, c, "images", images, n, e);
}

static int image_info(const struct rpc_context *ctx, struct arena *a, const struct image *im,
		      CRI_T(ImageStatusResponse) *out, struct err *e)
{
	struct image_config config;
	struct info info;
	struct str text;

	if (image_config_of(cri_of(ctx)->images, a, im->id, &config, e) < 0 ||
	    image_config_text(cri_of(ctx)->images, a, im->id, &text, e) < 0)
		return -1;
	info_begin(&info, a);
	info_text(&info, "created", config.created);
	info_text(&info, "architecture", config.platform.architecture);
	info_list(&info, "entrypoint", config.entrypoint);
	info_list(&info, "cmd", config.cmd);
	info_text(&info, "user", config.user);
	info_text(&info, "workingDir", config.workdir);
	info_text(&info, "stopSignal", config.stop_signal);
	info_list(&info, "volumes", config.volumes);
	info_list(&info, "exposedPorts", config.exposed_ports);
	info_list(&info, "diffIDs", config.diff_ids);
	info_json(&info, "imageSpec", text);
	info_end(&info, &out->base);
	return 0;
}

CRI_METHOD(image_status)
{
	CRI_IN(ImageStatusRequest);
	CRI_OUT(ImageStatusResponse);
	struct image image;
	const char *name;

	if (image_name(in->image, &name, e) < 0)
		return -1;
	if (image_find(cri_of(ctx)->images, &c->arena, name, &image, e) < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	out->image = image_out(&c->arena, &image);
	return in->verbose ? image_info(ctx, &c->arena, &image, out, e) : 0;
}

/* Never logged, never in an error's text. */
static const struct image_auth *auth_in(struct arena *a, const CRI_T(AuthConfig) *in)
{
	struct image_auth *auth;

	if (!in)
		return NULL;
	auth = arena_new0(a, struct image_auth);
	*auth = (struct image_auth){
		.username = text_in(in->username), .password = text_in(in->password), .auth = text_in(in->auth),
		.server_address = text_in(in->server_address), .identity_token = text_in(in->identity_token),
		.registry_token = text_in(in->registry_token),
	};
	return auth;
}

CRI_METHOD(pull_image)
{
	CRI_IN(PullImageRequest);
	CRI_OUT(PullImageResponse);
	struct image_pull_request pull = { 0 };
	const char *id;

	if (image_name(in->image, &pull.reference, e) < 0 || handler_check(ctx, in->image->runtime_handler, e) < 0)
		return -1;
	pull.auth = auth_in(&c->arena, in->auth);
	if (image_pull(cri_of(ctx)->images, c, &pull, &id, e) < 0)
		return -1;
	out->image_ref = text_out(id);
	return 0;
}

CRI_METHOD(remove_image)
{
	CRI_IN(RemoveImageRequest);
	struct image image;
	const char *name;
	bool last;

	(void)response;
	if (image_name(in->image, &name, e) < 0)
		return -1;
	if (image_find(cri_of(ctx)->images, &c->arena, name, &image, e) < 0)
		return e->kind == ERR_NOT_FOUND ? 0 : -1;
	if (image_untag(cri_of(ctx)->images, c, name, &last, e) < 0)
		return -1;
	if (!last)
		return 0;
	if (pods_use_image(cri_of(ctx)->pods, image.id))
		return err_set(e, ERR_STATE, "image %s is in use by a container", name);
	return image_remove(cri_of(ctx)->images, c, image.id, e);
}

CRI_METHOD(image_fs_info)
{
	CRI_OUT(ImageFsInfoResponse);
	struct arena *a = &c->arena;
	CRI_T(FilesystemUsage) *fs = CRI_NEW(a, filesystem_usage);
	struct image_usage usage;

	(void)request;
	if (image_usage_of(cri_of(ctx)->images, a, &usage, e) < 0)
		return -1;
	fs->timestamp = usage.at_wall_ns;
	fs->fs_id = CRI_NEW(a, filesystem_identifier);
	fs->fs_id->mountpoint = text_out(usage.mount_point);
	fs->used_bytes = uint64_out(a, usage.used_bytes);
	fs->inodes_used = uint64_out(a, usage.inodes_used);
	out->n_image_filesystems = 1;
	out->image_filesystems = CRI_NEWV(a, 1);
	out->image_filesystems[0] = fs;
	/* Containers write beside the images, to the same file system. */
	out->n_container_filesystems = 1;
	out->container_filesystems = CRI_NEWV(a, 1);
	out->container_filesystems[0] = fs;
	return 0;
}
