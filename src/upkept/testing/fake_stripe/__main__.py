from upkept.testing.fake_stripe.server import main

main()
