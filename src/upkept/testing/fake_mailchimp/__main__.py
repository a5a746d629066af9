from upkept.testing.fake_mailchimp.server import main

main()
