"""The cloud APIs as the lab answers them: DigitalOcean, Cloudflare and SendGrid."""
